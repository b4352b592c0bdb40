"""Scaled dot-product attention, the one that both model families use.

Axes: B batch, T query tokens, S key slots, N heads, H head size.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Smaller blocks compute less of the upper half; larger ones are better products and
# compile sooner.
QUERY_BLOCK = 96


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


def attend_back(query, key, value, mask, dropout=lambda probs: probs) -> jax.Array:
    """As `attend`, where token t looks at no slot after t: only half of it is computed.

    Queries in blocks, each with the keys up to its end; `mask` must be False beyond.

        1 . . .
        1 1 . .     in two blocks: the dots of the upper right corner
        1 1 1 .     are not computed
        1 1 1 1
    """
    length = query.shape[1]
    blocks = -(-length // QUERY_BLOCK)
    ends = [length * (i + 1) // blocks for i in range(blocks)]
    return jnp.concatenate(
        [
            attend(
                query[:, start:end],
                key[:, :end],
                value[:, :end],
                mask[:, start:end, :end],
                dropout,
            )
            for start, end in zip([0, *ends], ends, strict=False)
        ],
        axis=1,
    )
