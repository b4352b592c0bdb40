"""Scaled dot-product attention, the one that both model families use.

Axes: B batch, T query tokens, S key slots, N heads, H head size.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    dropout: Callable[[jax.Array], jax.Array] = lambda probs: probs,
) -> jax.Array:
    """softmax(q k / sqrt(H)) v; the softmax is float32 whatever the inputs are.

    [B, T, N, H], [B, S, N, H] twice, bool [B, T, S] (True = may look) -> [B, T, N, H].
    A row that may look nowhere gets the plain mean of the values, never a NaN.
    `dropout` is applied to the probabilities. Vaswani et al. (2017), section 3.2.1.
    """
    scores = jnp.einsum(
        "btnh,bsnh->bnts", query, key, preferred_element_type=jnp.float32
    )
    scores = scores * query.shape[-1] ** -0.5
    scores = jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)
    probs = dropout(jax.nn.softmax(scores, axis=-1).astype(value.dtype))
    return jnp.einsum("bnts,bsnh->btnh", probs, value)
