"""The classifier reads its tokens and nothing else: no pads, no hidden randomness."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.models.distilbert import DistilBert, DistilBertConfig

CONFIG = DistilBertConfig(
    vocab_size=17,
    max_position_embeddings=16,
    dim=20,
    n_layers=2,
    n_heads=5,
    hidden_dim=28,
    num_labels=3,
)
RATES = ("dropout", "attention_dropout", "seq_classif_dropout")
TOKENS = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)


@functools.cache
def variables():
    """Every weight, biases included, is large enough to matter."""
    init = jax.jit(DistilBert(CONFIG).init)
    shapes = jax.eval_shape(init, jax.random.key(0), TOKENS)
    draw = np.random.default_rng(0).normal
    return jax.tree.map(lambda s: draw(0.1, 0.5, s.shape).astype(s.dtype), shapes)


@functools.cache
def compiled(dtype=jnp.float32):
    return jax.jit(DistilBert(CONFIG, dtype=dtype).apply)


def logits(tokens, mask=None, dtype=jnp.float32):
    return np.asarray(compiled(dtype)(variables(), tokens, mask))


@functools.cache
def compiled_with_dropout(**rates):
    config = dataclasses.replace(CONFIG, **dict.fromkeys(RATES, 0.0) | rates)
    return jax.jit(functools.partial(DistilBert(config).apply, deterministic=False))


def noisy_logits(seed, **rates):
    rngs = {"dropout": jax.random.key(seed)}
    return compiled_with_dropout(**rates)(variables(), TOKENS, MASK, rngs=rngs)


@pytest.mark.parametrize("width", [4, 9])
@pytest.mark.parametrize("filler", [0, 11])
def test_amount_and_content_of_padding_change_no_logit(width, filler):
    tokens = np.full((1, width), filler)
    tokens[:, :3] = TOKENS[1:, :3]
    padded = logits(tokens, np.arange(width)[None] < 3)
    np.testing.assert_allclose(padded, logits(TOKENS[1:, :3]), atol=1e-5)


def test_every_real_token_and_its_place_count():
    plain, swapped = logits(TOKENS[:1]), logits(TOKENS[:1, [0, 2, 1, 3, 4]])
    assert np.abs(swapped - plain).max() > 1e-4
    for place in range(5):
        changed = TOKENS[:1].copy()
        changed[:, place] = 16
        assert np.abs(logits(changed) - plain).max() > 1e-4


def test_no_mask_means_all_real():
    np.testing.assert_array_equal(logits(TOKENS), logits(TOKENS, MASK | True))


def test_dropout_follows_its_key():
    first, same, other = (noisy_logits(seed, dropout=0.5) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-3


def test_dropout_of_rate_zero_drops_nothing():
    np.testing.assert_allclose(noisy_logits(0), logits(TOKENS, MASK), atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_each_dropout_rate_has_its_effect(rate):
    noisy = noisy_logits(0, **{rate: 0.5})
    assert np.abs(noisy - logits(TOKENS, MASK)).max() > 1e-3


def test_bfloat16_computes_close_to_float32_and_answers_in_float32():
    expected, half = logits(TOKENS, MASK), logits(TOKENS, MASK, jnp.bfloat16)
    init = DistilBert(CONFIG, dtype=jnp.bfloat16).init
    shapes = jax.eval_shape(init, jax.random.key(0), TOKENS)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    assert half.dtype == np.float32
    # bfloat16 keeps 8 bits: each of the dozen or so roundings on the way errs by up to
    # 0.4 % of values of size one, and they add up to a few per cent of the logits.
    assert 0 < np.abs(half - expected).max() < 0.05 * np.abs(expected).max()


def test_too_long_a_text_is_refused_by_its_length():
    with pytest.raises(ValueError, match=r"17 tokens.*max_position_embeddings=16"):
        logits(np.zeros((1, 17), np.int32))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="dim=20 is not a multiple of n_heads=3"):
        DistilBertConfig(dim=20, n_heads=3)


def test_a_layer_keeps_what_its_backward_pass_reads_and_no_longer():
    rows, width, layers = (16, 64), 64, (3, 6)

    def needed(n_layers):
        """Bytes of a gradient's program, beside weights and gradients."""
        sizes = {"dim": width, "hidden_dim": 4 * width, "n_heads": 4}
        limit = {"max_position_embeddings": rows[1]}
        model = DistilBert(
            dataclasses.replace(CONFIG, n_layers=n_layers, **sizes, **limit)
        )
        tokens = jax.ShapeDtypeStruct(rows, jnp.int32)
        params = jax.eval_shape(model.init, jax.random.key(0), tokens)
        gradient = jax.grad(lambda params, tokens: model.apply(params, tokens).sum())
        compiled = jax.jit(gradient).lower(params, tokens).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    fewer, more = map(needed, layers)
    array = 4 * width * rows[0] * rows[1]
    # Twelve of the width: queries, keys, values, what attention and both norms read and
    # return, and the hidden one, which is four. They were 32.
    assert (more - fewer) / (layers[1] - layers[0]) <= 12.5 * array
