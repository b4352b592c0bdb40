"""Matrix products of small numbers, as fast as a CPU can.

`product` takes bfloat16 operands, int8 ones, and float32 ones, which are rounded where
`jax.default_matmul_precision` is "bfloat16", as GPUs and TPUs do it. Sums are float32;
those of int8 operands int32, and exact.

    tile units (AMX)   oneDNN, which comes inside jaxlib; XLA knows no tiles
    avx512_bf16        the same for float32 operands that are rounded, as in training;
                       XLA's own products for weights that are stored so
    avx512_vnni        the same for int8 matrices of sixteen rows and more; for fewer
                       XLA's own
    avx2               XLA's own for int8 matrices: oneDNN sums pairs in 16 bits there,
                       which are too few
    others, and a GPU  `jnp.einsum`
"""

import functools
import json
import math
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

SEVERAL = 16  # rows of int8 numbers
# Seconds of compilation from which on a program is written to the compile cache.
WRITTEN_FROM = "jax_persistent_cache_min_compile_time_secs"


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def einsum(spec: str, a: jax.Array, b: jax.Array, dtype=jnp.float32) -> jax.Array:
    """`jnp.einsum` of two operands that share one contracted axis, summed in float32.

    spec: as "btnh,bsnh->bnts"; axes common to all three are a batch; of a and of b one
    more axis each goes to the result. -> `dtype`. Gradients have their operand's type.
    """
    return product(spec, a, b, dtype)


def _einsum_forward(spec, a, b, dtype):
    return product(spec, a, b, dtype), (a, b)


def _einsum_backward(spec, dtype, operands, dy):
    a, b = operands
    left, right, out = _axes(spec)
    dy = dy.astype(jnp.promote_types(a.dtype, b.dtype))
    return (
        product(f"{out},{right}->{left}", dy, b, a.dtype),
        product(f"{left},{out}->{right}", a, dy, b.dtype),
    )


einsum.defvjp(_einsum_forward, _einsum_backward)


def product(spec: str, a: jax.Array, b: jax.Array, dtype=jnp.float32) -> jax.Array:
    """As `einsum`, without a gradient of its own."""
    whole = a.dtype == b.dtype == jnp.float32
    if (whole and not rounds()) or jax.default_backend() != "cpu":
        return plain(spec, a, b, dtype)
    if available() or (whole and rounds_by_call()):
        return _onednn(spec, a, b, dtype)
    if a.dtype == jnp.int8:
        several = a.shape[0] >= SEVERAL and int8_by_call()  # its rows come first
        return (_onednn if several else _rows)(spec, a, b, dtype)
    return (_in_bfloat16 if has_bfloat16() else _in_float32)(spec, a, b, dtype)


def rounds() -> bool:
    """Whether `product` rounds float32 operands to bfloat16 on this machine's CPU."""
    allowed = jax.config.jax_default_matmul_precision == "bfloat16"
    cpu = jax.default_backend() == "cpu"
    return allowed and cpu and (available() or has_bfloat16())


@functools.cache
def available() -> bool:
    """Whether this machine's CPU has tiles, and jaxlib the call that uses them."""
    kinds = (jnp.bfloat16, jnp.float32), (jnp.int8, jnp.int32)
    return _has_amx() and _are_right(kinds)


@functools.cache
def rounds_by_call() -> bool:
    """Whether the same call multiplies bfloat16 numbers here, with tiles or without.

    XLA does so where it casts the operands itself, but not where the sum is over the
    first axes of both, as of the gradient of weights, and not for batches.
    """
    return has_bfloat16() and _are_right([(jnp.bfloat16, jnp.float32)])


@functools.cache
def int8_by_call() -> bool:
    """Whether the same call multiplies int8 numbers here, with tiles or without.

    Three times as fast as XLA for prefill, 1.7 times for sixteen rows, and slower for
    one or two (docs/performance.md, "Smaller weights").
    """
    return "avx512_vnni" in _cpu_flags() and _are_right([(jnp.int8, jnp.int32)])


def _are_right(kinds) -> bool:
    """Whether the call is there and right, for operands and sums of these types."""
    if platform.machine() != "x86_64":
        return False
    before = getattr(jax.config, WRITTEN_FROM)
    try:
        right = all(_is_right(kind, total) for kind, total in kinds)
    except (RuntimeError, ValueError):
        right = False  # another jaxlib
    # The call is made where it is asked for; until then programs may be written.
    jax.config.update(WRITTEN_FROM, before)
    return right


def _is_right(kind, total) -> bool:
    most = np.full((16, 16), 127, kind)  # of int8; bfloat16 has it exactly
    call = functools.partial(_onednn, "mk,kn->mn", dtype=total)
    compiled = jax.jit(call).lower(most, most).compile()
    return bool((np.asarray(compiled(most, most)) == 16 * 127**2).all())


def _has_amx() -> bool:
    return {"amx_bf16", "amx_int8"} <= _cpu_flags()


@functools.cache
def has_bfloat16() -> bool:
    """Whether this machine's CPU multiplies bfloat16 numbers, with tiles or without."""
    return "avx512_bf16" in _cpu_flags()


@functools.cache
def has_int8() -> bool:
    """Whether this machine's CPU multiplies int8 numbers sooner than float32 ones."""
    return "avx2" in _cpu_flags()


@functools.cache
def reads_by_input() -> bool:
    """Whether float32 products of few rows are done sooner with weights by input.

    What XLA multiplies with transposes weights by output, which takes AMD's CPUs longer
    than the product itself (docs/performance.md, "Decoding").
    """
    return "AuthenticAMD" in _cpu("vendor_id")


def _cpu_flags() -> set[str]:
    return set(_cpu("flags").split())


def _cpu(field: str) -> str:
    """The line of the first processor that begins with it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(field)), "")


def plain(spec: str, a: jax.Array, b: jax.Array, dtype=jnp.float32) -> jax.Array:
    """As `product`, by XLA, which rounds no float32 on a CPU."""
    total = jnp.int32 if a.dtype == jnp.int8 else jnp.float32
    return jnp.einsum(spec, a, b, preferred_element_type=total).astype(dtype)


def _in_bfloat16(spec, a, b, dtype):
    """By XLA, which uses `avx512_bf16` for matrices that are cast where they are
    multiplied, twice as fast as float32, and for batches of matrices not at all.
    """
    if len(_axes(spec)[2]) > 2:
        return _in_float32(spec, a, b, dtype)
    return _rows(spec, a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), dtype)


def _rows(spec, a, b, dtype):
    """By XLA, which for one row of small numbers first makes all of the matrix wide, up
    to ten times as slow as two (findings/jax_one_row_widens_the_matrix.sh).
    """
    left, right, out = _axes(spec)
    sizes = dict(zip(left + right, a.shape + b.shape, strict=True))

    def two(x, axes):
        return jnp.pad(x, [(0, axis in out and sizes[axis] == 1) for axis in axes])

    y = plain(spec, two(a, left), two(b, right), dtype)
    return y[tuple(slice(sizes[axis]) for axis in out)]


def _in_float32(spec, a, b, dtype):
    """What XLA makes of bfloat16 products on CPU, if it makes anything of them."""
    return plain(spec, a.astype(jnp.float32), b.astype(jnp.float32), dtype)


def _onednn(spec, a, b, dtype):
    """A batched matrix product of views, by a call of XLA's own, for a pass that its
    Python package does not have. Each operand is told in which order its axes lie in
    memory, so nothing is transposed; jaxlib 0.11 rearranges what differs from the order
    of its axes by more than the last two.

    A process that has traced one writes no program to the compile cache any more:
    jaxlib cannot, and may end the process in trying.
    """
    jax.config.update(WRITTEN_FROM, math.inf)
    left, right, out = _axes(spec)
    sizes = dict(zip(left + right, a.shape + b.shape, strict=True))
    one_row = any(sizes[x] == 1 for x in out if x in left and x not in right)
    # oneDNN writes the columns of the second one by one. It reads the first in place
    # and packs the second: a matrix times a single row, not a row times a matrix.
    if out[-1] not in right or one_row:
        (left, a), (right, b) = (right, b), (left, a)
    batch = [x for x in out if x in left and x in right]
    (row,) = (x for x in left if x not in right)
    (column,) = (x for x in right if x not in left)
    (inner,) = (x for x in left if x not in out)
    rows, columns = [*batch, row, inner], [*batch, inner, column]
    result = [*batch, row, column]
    if a.dtype != jnp.int8:
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    a, a_order, a_turned = _view(a, left, rows)
    b, b_order, b_turned = _view(b, right, columns)
    turned = {"transpose_a": a_turned, "transpose_b": b_turned}
    config = {"outer_dimension_partitions": [], "onednn_matmul_config": turned}
    call = jax.ffi.ffi_call(
        "__onednn$matmul",
        jax.ShapeDtypeStruct([sizes[x] for x in result], dtype),
        custom_call_api_version=2,
        legacy_backend_config=json.dumps(config),
        input_layouts=[a_order, b_order],
        output_layouts=_order(result, result if one_row else out),
    )
    return call(a, b).transpose(_order(result, out))


def _view(operand, axes, wanted):
    """The operand, the order of its axes in memory, and whether it is to be read with
    its last two axes the other way round: then it has the wanted ones."""
    axes = list(axes)
    if axes == [*wanted[:-2], wanted[-1], wanted[-2]]:
        return operand, _order(axes, axes), True
    return operand.transpose(_order(axes, wanted)), _order(wanted, axes), False


def _order(axes, wanted) -> tuple[int, ...]:
    """Where each of the wanted axes is among `axes`."""
    return tuple(axes.index(x) for x in wanted)


def _axes(spec: str) -> tuple[str, str, str]:
    operands, out = spec.split("->")
    left, right = operands.split(",")
    return left, right, out
