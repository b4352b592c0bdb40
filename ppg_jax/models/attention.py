"""Scaled dot-product attention (Vaswani et al., 2017, section 3.2.1), for both model
families. The softmax is float32 whatever the inputs are; a row that may look nowhere
gets a plain mean of values, never a NaN. On an NVIDIA GPU, attention of bfloat16
without dropout is cuDNN's, which keeps no scores (Dao et al., 2022, FlashAttention,
https://arxiv.org/abs/2205.14135).

Axes: B batch, T query tokens, S key slots, N heads, K heads of keys and values (as
many, or a divisor), H head size; F trunks of P tokens, each of G rows or fewer.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.models.product import einsum, plain

# Smaller blocks compute less of the upper half; larger ones are better products and
# compile sooner.
QUERY_BLOCK = 96
# Queries of a decode step where several query heads share a head of keys.
FEW = (2, 4)

Dropout = Callable[[jax.Array], jax.Array]


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    dropout: Dropout | None = None,
) -> jax.Array:
    """softmax(q k / sqrt(H)) v.

    [B, T, N, H], [B, S, K, H] twice, bool [B, T or 1, S] (True = may look) ->
    [B, T, N, H]. `dropout` is applied to the probabilities.
    """
    if dropout is None and _is_fused(query, key):
        return _by_cudnn(query, key, value, mask=mask, back=False)
    if query.shape[2] > key.shape[2]:
        rows = _fold(query, mask, key.shape[2])
        return _unfold(attend(rows[0], key, value, rows[1], dropout), query)
    scores = einsum("btnh,bsnh->bnts", query, key)
    probs = _probabilities(scores, mask, query.shape[-1], value.dtype)
    probs = probs if dropout is None else dropout(probs)
    return einsum("bnts,bsnh->btnh", probs, value, value.dtype)


def _fold(query, mask, heads: int) -> tuple[jax.Array, jax.Array]:
    """The query heads of one head of keys as queries of that many more tokens.

    [B, T, N, H], bool [B, T or 1, S] -> [B, T * N / K, K, H] and its mask.
    """
    batch, tokens, number, size = query.shape
    group = number // heads
    query = query.reshape(batch, tokens, heads, group, size).swapaxes(2, 3)
    mask = jnp.broadcast_to(mask, (batch, tokens, mask.shape[2]))
    return query.reshape(batch, -1, heads, size), jnp.repeat(mask, group, axis=1)


def _unfold(y, query):
    """What `_fold` made of the query, looked at, in the query's shape."""
    batch, tokens, number, size = query.shape
    heads = y.shape[2]
    y = y.reshape(batch, tokens, number // heads, heads, size).swapaxes(2, 3)
    return y.reshape(query.shape)


def _is_fused(query, key) -> bool:
    """Whether cuDNN has attention of these, and with a gradient."""
    (tokens, _, size), slots = query.shape[1:], key.shape[1]
    even = tokens % 2 == slots % 2 == size % 8 == 0
    return query.dtype == jnp.bfloat16 and even and size <= 128 and has_cudnn()


@functools.cache
def has_cudnn() -> bool:
    """Whether this machine's GPU has cuDNN's attention, found out by a small one."""
    if jax.default_backend() != "gpu":
        return False
    ones = np.ones((1, 16, 1, 64), jnp.bfloat16)
    mask = np.ones((1, 16, 16), bool)

    @jax.grad
    def gradient(query):
        return _by_cudnn(query, ones, ones, mask=mask, back=True).sum()

    try:
        with jax.default_device(jax.local_devices()[0]):
            compiled = jax.jit(gradient).lower(ones).compile()
            return bool(np.isfinite(np.asarray(compiled(ones), np.float32)).all())
    except (RuntimeError, NotImplementedError, ValueError):
        return False  # another GPU, or no cuDNN


def _by_cudnn(query, key, value, *, mask, back: bool):
    """`attend`, or `attend_back`, of which it computes the lower half alone.

    [B, T, N, H], [B, S, N, H] twice, bool [B, T or 1, S] -> [B, T, N, H].
    """
    mask = jnp.broadcast_to(mask, (len(query), query.shape[1], key.shape[1]))
    return jax.nn.dot_product_attention(
        query, key, value, mask=mask[:, None], is_causal=back, implementation="cudnn"
    )


def attend_cached(
    query: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array
) -> jax.Array:
    """As `attend`, of keys and values laid out as products with few queries read them.

    [B, T, N, H], [B, K, H, S], [B, K, S, H], bool [B, T, S] -> [B, T, N, H]. A decode
    step rearranges no cache, which would cost more than attention itself.
    """
    if query.shape[2] > keys.shape[1]:
        rows = _fold(query, mask, keys.shape[1])
        return _unfold(attend_cached(rows[0], keys, values, rows[1]), query)
    scores = _cached_scores(query, keys)
    probs = _probabilities(scores, mask, query.shape[-1], values.dtype)
    return _cached_values(probs, values)


class Shared(NamedTuple):
    """Keys and values that come before those of several rows."""

    keys: jax.Array  # [F, K, H, P]
    values: jax.Array  # [F, K, P, H]
    members: jax.Array  # int32 [F, G]; rows of each; places left over hold any
    places: jax.Array  # int32 [B]; where each row is among the F * G members


def attend_shared(
    query: jax.Array,
    shared: Shared,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """As `attend_cached`, of the shared slots and then of a row's own.

    [B, T, N, H], [B, K, H, S], [B, K, S, H], bool [B, T, P + S] -> [B, T, N, H]. The
    shared ones are read once for all rows of a trunk (Athiwaratkun et al., 2024,
    Bifurcated Attention, https://arxiv.org/abs/2403.08845).
    """
    if query.shape[2] > keys.shape[1]:
        rows = _fold(query, mask, keys.shape[1])
        return _unfold(attend_shared(rows[0], shared, keys, values, rows[1]), query)
    (trunks, group), length = shared.members.shape, shared.keys.shape[-1]
    tokens, size = query.shape[1], query.shape[-1]
    multiply = _of_cached(keys)

    def gather(x):
        """[B, T, N, ...] -> [F, G * T, N, ...]."""
        x = x[shared.members.reshape(-1)]
        return x.reshape(trunks, group * tokens, *x.shape[2:])

    def scatter(x):
        """[F, G * T, N, ...] -> [B, T, N, ...]."""
        return x.reshape(trunks * group, tokens, *x.shape[2:])[shared.places]

    before = scatter(multiply("fnhp,fqnh->fqnp", shared.keys, gather(query)))
    own = _cached_scores(query, keys)
    scores = jnp.concatenate([before.transpose(0, 2, 1, 3), own], axis=-1)
    probs = _probabilities(scores, mask, size, values.dtype)
    before = gather(probs[..., :length].transpose(0, 2, 1, 3))
    y = scatter(multiply("fnph,fqnp->fqnh", shared.values, before, values.dtype))
    return y + _cached_values(probs[..., length:], values)


def _cached_scores(query, keys):
    """[B, T, N, H], [B, N, H, S] -> float32 [B, N, T, S]."""
    multiply = functools.partial(_of_cached(keys), "btnh,bnhs->bnts")
    return _few(multiply, _scores_by_sums, query, keys, query.shape[1])


def _cached_values(probs, values):
    """[B, N, T, S], [B, N, S, H] -> [B, T, N, H]."""
    multiply = functools.partial(
        _of_cached(values), "bnts,bnsh->btnh", dtype=values.dtype
    )
    return _few(multiply, _values_by_sums, probs, values, probs.shape[2])


def _of_cached(array):
    # A float32 cache is not rounded: that would cost more than the product.
    return plain if array.dtype == jnp.float32 else einsum


def _few(multiply, by_sums, a, b, tokens: int):
    """XLA for CPUs gives a product with few queries to one core, and a sum to all.

    Not with one: on some CPUs the sum is a hundred times as slow as the product then.
    """
    if not FEW[0] <= tokens <= FEW[1] or b.dtype != jnp.float32:
        return multiply(a, b)
    return jax.lax.platform_dependent(a, b, cpu=by_sums, default=multiply)


def _scores_by_sums(query, keys):
    """[B, T, N, H], [B, N, H, S] -> [B, N, T, S]."""
    return jnp.sum(query.swapaxes(1, 2)[..., None] * keys[:, :, None], axis=3)


def _values_by_sums(probs, values):
    """[B, N, T, S], [B, N, S, H] -> [B, T, N, H]."""
    return jnp.sum(probs[..., None] * values[:, :, None], axis=3).swapaxes(1, 2)


def _probabilities(scores, mask, head_size: int, dtype):
    """float32 [B, N, T, S], bool [B, T, S] -> [B, N, T, S]."""
    scores = scores * head_size**-0.5
    scores = jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores, axis=-1).astype(dtype)


def attend_back(query, key, value, mask, dropout: Dropout | None = None) -> jax.Array:
    """As `attend`, where token t looks at no slot after t: only half of it is computed.

    Queries in blocks, each with the keys up to its end; `mask` must be False beyond.

        1 . . .
        1 1 . .     in two blocks: the dots of the upper right corner
        1 1 1 .     are not computed
        1 1 1 1
    """
    if dropout is None and _is_fused(query, key):
        return _by_cudnn(query, key, value, mask=mask, back=True)
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
