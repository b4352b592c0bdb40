"""Attention in blocks, or of shared slots, is attention."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.models import attention
from ppg_jax.models.attention import (
    QUERY_BLOCK,
    Shared,
    attend,
    attend_back,
    attend_cached,
    attend_shared,
)
from ppg_jax.models.decoder import as_cached

ROOT = Path(__file__).resolve().parents[2]
FUSED = [
    (jnp.bfloat16, None, True),
    (jnp.float32, None, False),
    (jnp.bfloat16, lambda probs: probs, False),
]


@pytest.mark.parametrize("length", [1, QUERY_BLOCK, QUERY_BLOCK + 1, 250])
@pytest.mark.parametrize("more_slots", [0, 7])
def test_blocks_give_the_same_results_and_gradients(length, more_slots):
    rng = np.random.default_rng(0)
    slots = length + more_slots
    query = drawn(rng, (2, length, 3, 4))
    key, value = (drawn(rng, (2, slots, 3, 4)) for _ in range(2))
    hidden = rng.random((2, length, slots)) < 0.3
    mask = (np.eye(length, slots, dtype=bool) | ~hidden) & np.tri(
        length, slots, dtype=bool
    )

    def results(function):
        def loss(query, key, value):
            y = function(query, key, value, mask)
            return jnp.sum(jnp.sin(y)), y

        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)

    both = jax.jit(lambda *qkv: [results(f)(*qkv) for f in (attend_back, attend)])
    for ours, plain in zip(*map(jax.tree.leaves, both(query, key, value)), strict=True):
        np.testing.assert_allclose(ours, plain, atol=2e-5)


def drawn(rng, shape):
    """By numpy: each shape that JAX draws is a program to compile."""
    return rng.standard_normal(shape, np.float32)


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no NVIDIA GPU")
def test_attention_of_cudnn_is_attention():
    command = [sys.executable, "-m", "tests.models.cudnn"]
    free = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=free)
    if done.returncode == 3:
        pytest.skip("JAX has no attention of cuDNN here")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dtype, dropout, fused", FUSED)
def test_cudnn_gets_what_it_can_do(dtype, dropout, fused, monkeypatch):
    """bfloat16, even lengths, nothing dropped out; and only the lower half to do."""
    asked = []
    monkeypatch.setattr(attention, "has_cudnn", lambda: True)
    monkeypatch.setattr(
        attention, "_by_cudnn", lambda *qkv, mask, back: asked.append(back) or qkv[2]
    )
    query = np.ones((2, 6, 3, 8), dtype)
    mask = np.tri(6, dtype=bool)[None]
    for look in (attend, attend_back):
        look(query, query, query, mask, dropout)
        look(query[:, :5], query[:, :5], query[:, :5], mask[:, :5, :5], dropout)
    assert asked == ([False, True] if fused else [])


def test_what_is_ahead_is_not_computed():
    def flops(function):
        shape = jax.ShapeDtypeStruct((1, 8 * QUERY_BLOCK, 2, 16), jnp.float32)
        mask = jax.ShapeDtypeStruct((1, 8 * QUERY_BLOCK, 8 * QUERY_BLOCK), jnp.bool)
        compiled = jax.jit(function).lower(shape, shape, shape, mask).compile()
        return compiled.cost_analysis()["flops"]

    # Eight blocks compute (1 + 2 + ... + 8) / 64 of the scores.
    assert flops(attend_back) / flops(attend) == pytest.approx(36 / 64, rel=0.05)


@pytest.mark.parametrize("tokens", [1, 4])
def test_slots_shared_by_rows_are_slots_of_each(tokens):
    """Rows in no order of three trunks: one has a place over, one no rows at all."""
    members, places = [[4, 0, 2], [1, 3, 0], [0, 0, 0]], [1, 3, 2, 4, 0]
    trunk_of = np.array([0, 1, 0, 1, 0])
    rng = np.random.default_rng(0)
    query = drawn(rng, (5, tokens, 2, 8))
    before = [drawn(rng, shape) for shape in of_slots(3, 11)]
    own = [drawn(rng, shape) for shape in of_slots(5, 6)]
    mask = rng.random((5, tokens, 17)) < 0.6
    shared = Shared(*before, np.array(members), np.array(places))

    @jax.jit
    def both(query, shared, own, before):
        whole = [
            jnp.concatenate([a[trunk_of], b], axis=axis)
            for a, b, axis in zip(before, own, (3, 2), strict=True)
        ]
        return attend_shared(query, shared, *own, mask), attend_cached(
            query, *whole, mask
        )

    np.testing.assert_allclose(*both(query, shared, own, before), atol=1e-5)


def of_slots(rows: int, slots: int):
    """Shapes of cached keys and values: two heads, 8 wide."""
    return (rows, 2, 8, slots), (rows, 2, slots, 8)


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_cache_is_looked_at_as_tokens_are(tokens):
    rng, mask = np.random.default_rng(1), np.ones((2, tokens, 7), bool)
    query = drawn(rng, (2, tokens, 2, 8))
    mask[:, :, 5] = False
    key, value = (drawn(rng, (2, 7, 2, 8)) for _ in range(2))

    @jax.jit
    def both(query, key, value):
        cached = attend_cached(query, *as_cached(key, value), mask)
        return cached, attend(query, key, value, mask)

    np.testing.assert_allclose(*both(query, key, value), atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="sums are for CPUs")
@pytest.mark.parametrize("tokens, products", [(1, 2), (2, 0), (4, 0), (5, 2)])
def test_one_query_and_many_are_products_and_a_few_are_sums(tokens, products):
    query, mask = np.ones((2, tokens, 2, 8), "f4"), np.ones((2, tokens, 7), bool)
    key, value = (np.ones(shape, "f4") for shape in of_slots(2, 7))
    program = jax.jit(attend_cached).lower(query, key, value, mask)
    assert program.as_text().count("dot_general") == products
