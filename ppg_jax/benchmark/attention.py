"""A small race: our attention and that of `jax.nn`, at the shapes of our models.

Axes: B rows, T query tokens, S key tokens, N heads, H head size.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.models.attention import attend, attend_back

WARM_UP, ROUNDS = 2, 10
LAP_SECONDS = 0.02  # calls are counted out to last as long, so that starts weigh little


class Shape(NamedTuple):
    """Attention of one kind of pass.

    kind: "causal" (an instance a row), "branch" (a dialogue a row: an arbitrary mask
    that never looks ahead), "read" (the last layer's queries at the targets) or
    "padding" (the critic).
    """

    name: str
    kind: str
    rows: int
    queries: int
    keys: int
    heads: int
    size: int = 64


SHAPES = (
    Shape("responses of a dialogue, small", "causal", 32, 320, 320, 12),
    Shape("personas of a dialogue, small", "branch", 32, 640, 640, 12),
    Shape("instances, small", "causal", 64, 256, 256, 12),
    Shape("responses, last layer, small", "read", 32, 80, 320, 12),
    Shape("critic", "padding", 128, 64, 64, 12),
    Shape("responses of a dialogue, medium", "causal", 32, 320, 320, 16),
)


def small(shape: Shape) -> Shape:
    """The same kind of pass in a size that a CPU does at once."""
    queries = 24 if shape.kind == "read" else 100
    return shape._replace(rows=2, heads=2, size=16, queries=queries, keys=100)


def masks(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """bool [B, T, S], True = may look, and int32 [B] of lengths, 60 to 100 % of S."""
    rng = np.random.default_rng(0)
    keys = np.arange(shape.keys)
    lengths = rng.integers(shape.keys * 6 // 10, shape.keys + 1, shape.rows)
    real = (keys < lengths[:, None])[:, None]  # [B, 1, S]
    at = np.arange(shape.queries) * shape.keys // shape.queries
    back = (keys <= at[:, None])[None]
    mask = {"padding": real}.get(shape.kind, real & back)
    if shape.kind == "branch":  # ten of them, behind a trunk of half the keys
        branch = np.maximum(keys * 20 // shape.keys - 9, 0)
        own = branch[:, None] == branch
        mask = mask & (own | (branch == 0))[None]
    whole = (shape.rows, shape.queries, shape.keys)
    return np.broadcast_to(mask, whole).copy(), lengths.astype(np.int32)


def contestants(shape: Shape) -> dict[str, Callable]:
    """Name -> attention of query, key, value, mask and lengths."""
    ahead = shape.kind in ("causal", "branch")
    made = {"ours": attend_back if ahead else attend}
    if ahead:
        made["ours, not in blocks"] = attend
    made |= {name: functools.partial(_of_jax, name) for name in ("xla", "cudnn")}
    made = {name: functools.partial(_masked, attend) for name, attend in made.items()}
    if shape.kind in ("causal", "padding"):
        # The same mask, told by lengths: cuDNN then reads none and skips what is ahead.
        made["cudnn, lengths"] = functools.partial(_by_lengths, shape.kind == "causal")
    return made


def measure(shape: Shape, dtype: str) -> Iterator[dict]:
    """The records of one shape, one by one: who, which pass, and milliseconds or why
    there are none. difference: from ours in float32, relative to the largest number.
    """
    arrays = _arrays(shape, jnp.dtype(dtype))
    exact = None
    for name, attention in contestants(shape).items():
        for both in (False, True):
            told = {
                "name": f"{shape.name}, {dtype}, {_pass(both)}, {name}",
                "shape": shape._asdict(),
                "dtype": dtype,
                "pass": _pass(both),
                "contestant": name,
            }
            try:
                program = _program(attention, both)
                result = program(*arrays)
                if exact is None:
                    exact = _exact(shape)
                told["difference"] = _difference(result, exact, shape)
                told |= _times(program, arrays)
            except Exception as error:  # of a kind that each backend chooses
                told["error"] = f"{type(error).__name__}: {error}"[:500]
            yield told


def _masked(attention, query, key, value, mask, lengths):
    del lengths
    return attention(query, key, value, mask)


def _of_jax(implementation, query, key, value, mask):
    return jax.nn.dot_product_attention(
        query, key, value, mask=mask[:, None], implementation=implementation
    )


def _by_lengths(causal, query, key, value, mask, lengths):
    del mask
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        is_causal=causal,
        query_seq_lengths=lengths,
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )


def _pass(both: bool) -> str:
    return "forward and backward" if both else "forward"


def _arrays(shape: Shape, dtype) -> tuple[jax.Array, ...]:
    """Query, key, value, mask, lengths, and the gradient that comes in."""
    mask, lengths = masks(shape)
    keys = jax.random.split(jax.random.key(0), 4)
    long = (shape.rows, shape.keys, shape.heads, shape.size)
    short = (shape.rows, shape.queries, shape.heads, shape.size)
    shapes = (short, long, long, short)
    made = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    # No gradient comes from a query that is padding, nor is its result looked at.
    made[3] = jnp.where(_real(shape, lengths)[:, :, None, None], made[3], 0)
    query, key, value, incoming = (a.astype(dtype) for a in made)
    return query, key, value, jnp.asarray(mask), jnp.asarray(lengths), incoming


def _real(shape: Shape, lengths: np.ndarray) -> np.ndarray:
    """bool [B, T]: queries that are no padding."""
    at = np.arange(shape.queries) * shape.keys // shape.queries
    return at < lengths[:, None]


def _program(attention, both: bool) -> Callable:
    """Arrays -> the result, and with `both` the gradients of query, key and value."""

    def forward(query, key, value, mask, lengths, incoming):
        return (attention(query, key, value, mask, lengths),)

    def forward_and_backward(query, key, value, mask, lengths, incoming):
        out, back = jax.vjp(
            lambda *qkv: attention(*qkv, mask, lengths), query, key, value
        )
        return out, *back(incoming)

    return jax.jit(forward_and_backward if both else forward)


def _exact(shape: Shape) -> tuple[np.ndarray, ...]:
    """What ours gives in float32, products in full."""
    with jax.default_matmul_precision("highest"):
        program = _program(contestants(shape)["ours"], True)
        return tuple(map(np.asarray, program(*_arrays(shape, jnp.float32))))


def _difference(result, exact, shape: Shape) -> float:
    """The largest of the parts' relative differences, at real queries."""
    real = _real(shape, masks(shape)[1])
    apart = []
    for i, (a, b) in enumerate(zip(result, exact, strict=False)):
        a, b = np.asarray(a, np.float32), b
        if i == 0:
            a, b = a[real], b[real]
        apart.append(float(np.abs(a - b).max() / np.abs(b).max()))
    return float(np.max(apart))


def _times(program: Callable, arrays) -> Mapping[str, float]:
    """Milliseconds of one call: the median over rounds, and the least."""
    for _ in range(WARM_UP):
        seconds = _seconds(program, arrays, 1)
    calls = max(1, min(1000, int(LAP_SECONDS / seconds)))
    laps = [1e3 * _seconds(program, arrays, calls) / calls for _ in range(ROUNDS)]
    return {"milliseconds": float(np.median(laps)), "least_milliseconds": min(laps)}


def _seconds(program: Callable, arrays, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        result = program(*arrays)
    jax.block_until_ready(result)
    return time.perf_counter() - began
