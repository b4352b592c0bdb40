"""Weights as decode steps read them best: rearranged for a CPU, and smaller if asked.

Kernels of linear layers [D, F] become weights [F, D] once, before any step: products of
few rows read that order up to twice as fast (docs/performance.md, "Decoding"), and what
is cast in a step has been read whole. The fewer bytes, the sooner it is done.
Activations stay as they are; a product rounds its rows to the type of the weights.

    float32     kernels as they are where the CPU reads those faster
    bfloat16    8 bits of mantissa
    int8        one scale for each output; rows get one each when they come, so that
                none depends on its batch (Yao et al., 2022, ZeroQuant,
                https://arxiv.org/abs/2206.01861, sections 4.1 and 4.2)

Axes: R rows, D inputs, F outputs.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.errors import UserError
from ppg_jax.models import product

WEIGHTS = ("float32", "bfloat16", "int8")
# What multiplies them on a CPU, as /proc/cpuinfo calls it.
NEEDED = {"bfloat16": "avx512_bf16", "int8": "avx2"}
# Names of the token embedding in the trees of the decoders' families.
TABLES = ("wte", "embed_tokens")


def table_of(params: dict) -> str:
    """The name of the token embedding in a decoder's tree; "" without one."""
    return next((name for name in TABLES if name in params), "")


def for_inference(model, params: dict, weights: str) -> tuple:
    """(model, params) of a `Decoder` as they answer soonest with weights of that type.

    On a CPU only the weights get smaller (`quantize`); on a GPU all is bfloat16 then.

    Raises:
      UserError: this machine has no fast products of that type.
    """
    if weights == "bfloat16" and jax.default_backend() != "cpu":
        model = model.clone(dtype=jnp.bfloat16)
    return model, ready(params, weights)


def ready(params: dict, weights: str) -> dict:
    """The parameters of `for_inference`, or a base that adapters are put into."""
    if weights == "bfloat16" and jax.default_backend() != "cpu":
        return quantize(params, "float32", jnp.bfloat16)
    return quantize(params, weights)


def quantize(params: dict, weights: str, dtype=jnp.float32) -> dict:
    """The tree of a `Decoder` with its linear layers and token embedding in that type,
    for inference alone; float32 ones as `for_decoding` has them for the compute type.

    "kernel" [D, F] becomes "weight" [F, D], and so does "embedding" [V, D] if it gets
    smaller; int8 ones have a "scale", float32 [F], beside them.

    Of numpy's arrays float32 ones are views: a file has most kernels by output.

    What is ready already stays what it is, as the base of several trees does
    (`models.adapters`), which may be trained beside adapters: only its own weights have
    no gradient.

    Raises:
      UserError: this machine has no fast products of that type.
    """
    if not _pays(weights):
        paying = " or ".join(repr(w) for w in ("int8", "float32") if _pays(w))
        raise UserError(
            f"weights={weights!r} needs a CPU with {NEEDED[weights]} or AMX, where it "
            f"is faster; use weights={paying}, or 'bfloat16' on a GPU."
        )
    if is_ready(params) or (weights == "float32" and _stays(dtype)):
        return params
    if weights == "float32":
        if _on_host(params):
            return for_decoding(params, dtype)
        return jax.jit(for_decoding, static_argnums=1)(params, jnp.dtype(dtype))
    return jax.jit(_smaller, static_argnums=1)(params, weights)


def _pays(weights: str) -> bool:
    if weights == "float32":
        return True
    has = {"bfloat16": product.has_bfloat16, "int8": product.has_int8}[weights]
    return jax.default_backend() == "cpu" and has()


def is_ready(params: dict) -> bool:
    """Whether no linear layer of the tree has its kernel any more."""
    return "kernel" not in params and all(
        is_ready(part) for part in params.values() if isinstance(part, dict)
    )


def _on_host(params) -> bool:
    return all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))


def _smaller(params, weights):
    name = table_of(params)
    table = _weight(params[name]["embedding"], weights)
    return _by_output(params, weights) | {name: table}


def for_decoding(params: dict, dtype) -> dict:
    """float32 weights made ready for many steps, once instead of in each.

    Kernels are cast to the compute type (to bfloat16 where products round,
    `product.rounds`), and on a CPU laid out by output, if they do not stay by input.

    Pure, and does nothing to a tree that it or `quantize` has made. The embedding stays
    what it is; a head of another type lies beside it as "weight".
    """
    dtype = jnp.dtype(jnp.bfloat16 if product.rounds() else dtype)
    if _stays(dtype):
        return params
    if jax.default_backend() == "cpu":
        params = _by_output(params, dtype)
    else:
        params = _kernels_as(params, dtype)
    name = table_of(params)
    table = params.get(name, {})
    if "embedding" in table and "weight" not in table and dtype != jnp.float32:
        params = params | {name: table | _weight(table["embedding"], dtype)}
    return params


def _stays(dtype) -> bool:
    """Whether this CPU reads kernels of that type sooner as they are."""
    whole = jnp.dtype(dtype) == jnp.float32 and not product.rounds()
    return whole and jax.default_backend() == "cpu" and product.reads_by_input()


def _by_output(tree, weights):
    if not isinstance(tree, dict):
        return tree
    made = {name: _by_output(part, weights) for name, part in tree.items()}
    if "kernel" in made:
        weight = made.pop("kernel").T
        if not isinstance(weight, np.ndarray):
            # Without the barrier, XLA makes the transpose a matter of layout, which is
            # to read the kernel as it was.
            weight = jax.lax.optimization_barrier(weight)
        made |= _weight(weight, weights)
    return made


def _kernels_as(tree, dtype):
    """The tree with its kernels in that type."""
    if not isinstance(tree, dict):
        return tree
    made = {name: _kernels_as(part, dtype) for name, part in tree.items()}
    if "kernel" in made:
        made["kernel"] = made["kernel"].astype(dtype)
    return made


def _weight(weight, weights) -> dict:
    if weights != "int8":
        return {"weight": weight.astype(weights, copy=False)}
    weight, scale = to_int8(weight)
    return {"weight": weight, "scale": scale}


def to_int8(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float [R, D] -> int8 [R, D] and float32 [R], whose product is off by half a scale
    at most; the scale is the row's largest number over 127.
    """
    rows = rows.astype(jnp.float32)
    largest = jnp.max(jnp.abs(rows), axis=-1)
    scale = jnp.maximum(largest, 1e-30) / 127  # a row of zeros has none
    return jnp.round(rows / scale[:, None]).astype(jnp.int8), scale


def linear(
    rows: jax.Array, weight: jax.Array, scale: jax.Array | None = None
) -> jax.Array:
    """rows @ weight.T, rows rounded to the type of the weights, sums in 32 bits.

    [R, D], [F, D], float32 [F] of int8 weights -> float32 [R, F].
    """
    if scale is None:
        return product.einsum("rd,fd->rf", rows.astype(weight.dtype), weight)
    rows, row_scale = to_int8(rows)
    y = product.product("rd,fd->rf", rows, weight, jnp.int32)
    return y.astype(jnp.float32) * row_scale[:, None] * scale[None]


def lookup(
    tokens: jax.Array, weight: jax.Array, scale: jax.Array | None = None
) -> jax.Array:
    """int [...] -> float32 [..., D]: the rows of the weights, [F, D], at the tokens."""
    if scale is not None:
        return weight[tokens].astype(jnp.float32) * scale[tokens][..., None]
    # XLA for CPUs makes all of a bfloat16 table float32 to look up a row of it.
    bits = jax.lax.bitcast_convert_type(weight, jnp.uint16)
    rows = bits[tokens]
    return jax.lax.bitcast_convert_type(rows, jnp.bfloat16).astype(jnp.float32)
