"""A small race: one matrix product, by each order of the weights and by each library.

Axes: R rows, D inputs, F outputs.
"""

import functools
import importlib.util
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.models import product

ROUNDS = 7
FRESH_BYTES = 256 << 20  # of weights in a lap: more than a cache keeps for the next one


class Shape(NamedTuple):
    """[R, D] times [D, F]."""

    rows: int
    inputs: int
    outputs: int


# Decode steps have few rows, prefill and training many; the last layer is the head.
SHAPES = tuple(
    Shape(rows, *layer)
    for rows in (1, 8, 16, 32, 64, 1280)
    for layer in ((768, 3072), (3072, 768), (768, 50257))
)


def ways(shape: Shape, weights: int) -> dict[str, Callable]:
    """Name -> what multiplies the same rows by each of so many weights."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((shape.rows, shape.inputs), np.float32)
    size = (weights, shape.inputs, shape.outputs)
    by_input = list(rng.standard_normal(size, np.float32))
    by_output = [np.ascontiguousarray(w.T) for w in by_input]
    made = {
        "XLA, [in, out]": _xla(jnp.einsum, "rd,df->rf", x, by_input),
        "XLA, [out, in]": _xla(jnp.einsum, "rd,fd->rf", x, by_output),
    }
    if product.available():
        rounded = [w.astype(jnp.bfloat16) for w in by_output]
        made["bfloat16 by tiles, [out, in]"] = _xla(
            product.product, "rd,fd->rf", x.astype(jnp.bfloat16), rounded
        )
    if importlib.util.find_spec("torch"):
        made["PyTorch, [in, out]"] = _torch(x, by_input)
        made["PyTorch, [out, in]"] = _torch(x, by_output, turned=True)
    return made


def measure(shape: Shape) -> dict:
    """GFLOP/s of each way: medians of rounds in which each has a lap."""
    size = shape.inputs * shape.outputs
    weights = max(1, FRESH_BYTES // (4 * size))
    found = ways(shape, weights)
    seconds = {name: [] for name in found}
    for run in found.values():
        run()
    for _ in range(ROUNDS):
        for name, run in found.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    flops = 2 * shape.rows * size * weights
    return {
        "name": " x ".join(map(str, shape)),
        "gigaflops": {n: flops / np.median(s) / 1e9 for n, s in seconds.items()},
    }


def _xla(multiply, spec, x, weights):
    program = jax.jit(lambda x, weights: [multiply(spec, x, w) for w in weights])
    arrays = jax.device_put((x, weights))
    return lambda: jax.block_until_ready(program(*arrays))


def _torch(x, weights, turned=False):
    import torch

    x, *weights = map(torch.from_numpy, (x, *weights))
    multiply = functools.partial(torch.matmul, x)
    return lambda: [multiply(w.T if turned else w) for w in weights]
