"""What a layer keeps for its backward pass on a CPU, and when it is let go.

XLA's compiler for CPUs starts what can start: what `jax.checkpoint` meant to compute
again later is computed at once, and is there for every layer at the same time.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
from jax.experimental.xla_metadata import set_xla_metadata


def layerwise(layer: Callable) -> Callable:
    """`layer`, (module, *arrays) -> arrays, whose backward pass is one step on a CPU.

    It starts with the gradient of what the layer returns, and ends with all that it
    computes: nothing is computed again before, and nothing is kept after it.
    """
    if not _on_cpu():
        return layer

    def forward(module, *arrays):
        return nn.vjp(layer, module, *arrays)

    return nn.custom_vjp(layer, forward_fn=forward, backward_fn=_in_one_call)


def recomputed(layer: Callable) -> Callable:
    """`layer`, a module's class or (module, *arrays) -> arrays, of which a CPU keeps
    the inputs alone for its backward pass, and computes the rest again."""
    return nn.remat(layer) if _on_cpu() else layer


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _in_one_call(back: Callable, dy):
    """back(dy), which XLA does not inline."""

    @jax.jit
    def call(back, dy):
        # What it calls itself is inlined.
        with set_xla_metadata(inlineable=None):
            return back(dy)

    with set_xla_metadata(inlineable="false"):
        return call(back, dy)
