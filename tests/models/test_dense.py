"""The linear layer against flax's own: parameters, results, gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.models.dense import Dense, gelu
from ppg_jax.models.distilbert import DistilBertConfig
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.models.llama import LlamaConfig


@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 6)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 2e-2)])
def test_it_is_the_dense_layer_of_flax(shape, dtype, tolerance):
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    ours, theirs = Dense(5, jnp.dtype(dtype)), nn.Dense(5, dtype=jnp.dtype(dtype))
    params = ours.init(jax.random.key(1), x)
    params = jax.tree.map(lambda p: p + 0.1, params)  # a bias that is not 0
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == jax.tree.map(jnp.shape, theirs.init(jax.random.key(1), x))

    def value(layer):
        def loss(params, x):
            y = layer.apply(params, x)
            return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
            params, x
        )

    results = map(jax.tree.leaves, (value(ours), value(theirs)))
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(
            np.float32(a), np.float32(b), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("approximate", [True, False])
def test_gelu_is_that_of_flax_and_keeps_its_input_alone(approximate):
    x = 3 * np.random.default_rng(0).standard_normal(50, np.float32)
    y, back = jax.vjp(lambda x: gelu(x, approximate), x)
    expected, plainly = jax.vjp(lambda x: nn.gelu(x, approximate), x)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(back(x), plainly(x), rtol=1e-5, atol=1e-6)
    kept = [leaf for leaf in jax.tree.leaves(back) if jnp.shape(leaf) == x.shape]
    assert len(kept) == 1
    assert sum(jnp.shape(a) == x.shape for a in jax.tree.leaves(plainly)) > 1


@pytest.mark.parametrize("size", [0, -1, 1.5])
@pytest.mark.parametrize(
    ("config", "names"),
    [
        (GPT2Config, ("n_layer", "n_head", "n_embd", "n_positions")),
        (LlamaConfig, ("num_hidden_layers", "num_attention_heads", "hidden_size")),
        (DistilBertConfig, ("n_layers", "n_heads", "dim", "hidden_dim")),
    ],
)
def test_a_size_that_makes_no_model_is_refused_by_name(config, names, size):
    for name in names:
        with pytest.raises(ValueError, match=f"{name}={size} must be a whole number"):
            config(**{name: size})
