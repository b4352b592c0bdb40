"""The last layer is computed where it is read, and gives there what it gave before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.models.gpt2 import GPT2, GPT2Config
from ppg_jax.models.llama import Llama, LlamaConfig

TOKENS = np.arange(24).reshape(2, 12) % 17
MASK = np.arange(12)[None] < np.array([[12], [9]])


def gpt2():
    config = GPT2Config(17, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    model = GPT2(config)
    return model, lambda read: {"attention_mask": MASK, "read": read}


def llama():
    config = LlamaConfig(17, 32, 24, 40, 2, 4, num_key_value_heads=2)
    return Llama(config), gpt2()[1]


def distilbert():
    config = DistilBertConfig(17, 32, dim=24, n_layers=2, hidden_dim=96)
    return DistilBert(config), lambda read: {"attention_mask": MASK, "read": read}


ALL = {distilbert: slice(None)}  # of the decoders it is None
CASES = [
    # Out of order, twice the same, and next to padding.
    (gpt2, np.array([[3, 11, 3], [0, 8, 7]])),
    (llama, np.array([[3, 11, 3], [0, 8, 7]])),
    (distilbert, slice(1)),
    (distilbert, slice(3)),
]


def hidden_states(kind, read):
    """A function of tokens and params, and params that matter."""
    model, options = kind()
    params = jax.eval_shape(model.init, jax.random.key(0), TOKENS)["params"]
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(lambda p: jnp.asarray(draw(0.1, 0.3, p.shape)), params)

    def apply(params):
        variables = {"params": params}
        return model.apply(variables, TOKENS, **options(read), method="hidden_states")

    return apply, params


@pytest.mark.parametrize(("kind", "read"), CASES)
def test_what_is_read_and_its_gradients_are_the_same(kind, read):
    everything, params = hidden_states(kind, ALL.get(kind))
    some, _ = hidden_states(kind, read)

    def picked(params):
        hidden = everything(params)
        if isinstance(read, slice):
            return hidden[:, read]
        return jnp.take_along_axis(hidden, read[:, :, None], axis=1)

    def results(function):
        def loss(params):
            hidden = function(params)
            return jnp.sum(jnp.sin(hidden)), hidden

        return jax.value_and_grad(loss, has_aux=True)

    both = jax.jit(lambda params: [results(f)(params) for f in (some, picked)])
    for a, b in zip(*map(jax.tree.leaves, both(params)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize(("kind", "read"), CASES[:3])
def test_what_is_not_read_is_not_computed(kind, read):
    """Of the last of two layers, keys and values (and GPT-2's queries) are left."""

    def flops(read):
        function, params = hidden_states(kind, read)
        return jax.jit(function).lower(params).compile().cost_analysis()["flops"]

    assert flops(read) < 0.75 * flops(ALL.get(kind))
