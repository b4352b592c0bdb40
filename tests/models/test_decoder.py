"""A block is traced once for all layers, and they compute what each would alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import models_for_tests as small

TOKENS = np.arange(24).reshape(2, 12) % 17
DRY = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}


def calls(jaxpr) -> list:
    """The bodies of the calls of layers."""
    return [e.params["jaxpr"] for e in jaxpr.eqns if e.params.get("name") == "layer"]


def test_layers_share_one_trace_and_the_last_has_another_where_it_reads_less(decoder):
    model, params = decoder(17, n_layer=5)

    def logits(params):
        return model.apply({"params": params}, TOKENS)

    def prefill(params):
        mask = np.ones(TOKENS.shape, bool)
        return model.apply({"params": params}, TOKENS, mask, 16, method="prefill")

    for function, bodies in [(logits, 1), (prefill, 2)]:
        found = calls(jax.make_jaxpr(function)(params).jaxpr)
        assert len(found) == 5 and len({id(body) for body in found}) == bodies


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_layers_of_one_trace_and_traced_one_by_one_are_the_same_program(kind):
    model, params = small.DECODERS[kind](
        17, n_layer=3, **(DRY if kind == "gpt2" else {})
    )

    def compiled(deterministic):
        def loss(params):
            options = {"deterministic": deterministic}
            return jnp.sum(jnp.sin(model.apply({"params": params}, TOKENS, **options)))

        return jax.jit(jax.value_and_grad(loss)).lower(params).compile()

    once, each = compiled(True), compiled(False)
    jax.tree.map(np.testing.assert_array_equal, once(params), each(params))
    assert once.cost_analysis()["flops"] == each.cost_analysis()["flops"]
