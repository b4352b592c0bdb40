"""The contestants of the attention race compute the same, or say why not."""

import jax
import numpy as np
import pytest

from ppg_jax.benchmark import attention

TINY = [attention.small(shape) for shape in attention.SHAPES[:5]]


@pytest.fixture(autouse=True)
def one_lap(monkeypatch):
    monkeypatch.setattr(attention, "ROUNDS", 1)
    monkeypatch.setattr(attention, "LAP_SECONDS", 0)


@pytest.mark.parametrize("shape", TINY, ids=lambda shape: shape.name)
def test_the_same_is_computed_and_an_error_is_text(shape):
    found = list(attention.measure(shape, "float32"))
    timed = [r for r in found if "error" not in r]
    assert {r["contestant"] for r in timed} >= {"ours", "xla"}
    assert max(r["difference"] for r in timed) < 1e-5
    assert min(r["milliseconds"] for r in timed) > 0
    told = {r["contestant"]: r["error"] for r in found if "error" in r}
    assert told.keys() >= {"cudnn"}  # there is no GPU here
    assert all("cuDNN" in text for text in told.values())
    assert len({r["name"] for r in found}) == len(found)


@pytest.mark.parametrize("shape", TINY, ids=lambda shape: shape.name)
def test_no_mask_looks_ahead_where_blocks_are_used(shape):
    mask, lengths = attention.masks(shape)
    assert mask.shape == (shape.rows, shape.queries, shape.keys)
    assert mask.any(axis=2).all() or shape.kind == "branch"
    if "ours, not in blocks" in attention.contestants(shape):
        assert not mask[:, ~np.tri(shape.keys, dtype=bool)].any()
    assert not mask.any(axis=1)[np.arange(shape.keys) >= lengths[:, None]].any()


@pytest.mark.parametrize("shape", TINY, ids=lambda shape: shape.name)
def test_the_mask_by_lengths_is_the_mask(shape):
    if "cudnn, lengths" not in attention.contestants(shape):
        pytest.skip("this mask is not one of lengths")
    mask, lengths = attention.masks(shape)
    query, key, value, *_ = attention._arrays(shape, "float32")
    told = jax.nn.dot_product_attention(
        query,
        key,
        value,
        is_causal=shape.kind == "causal",
        key_value_seq_lengths=lengths,
    )
    by_mask = jax.nn.dot_product_attention(query, key, value, mask=mask[:, None])
    np.testing.assert_allclose(told, by_mask, atol=1e-6)
