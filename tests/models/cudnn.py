"""Compares cuDNN's attention with ours: `python -m tests.models.cudnn`, on a GPU.

Other tests keep JAX to the CPU, so it is a program of its own. Exit codes: 0 alike, 1
not alike, 3 no such attention here.
"""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.models import attention

ROWS, TOKENS, HEADS, SIZE = 2, 128, 4, 64


def masks() -> dict[str, jax.Array]:
    """Branches that never look ahead, among them a row that may look nowhere; padding
    on the right, as the critic has it; and prompts padded on the left."""
    back = jnp.tri(TOKENS, dtype=bool)[None]
    key = jax.random.key(1)
    branches = jax.random.bernoulli(key, 0.7, (ROWS, TOKENS, TOKENS)) & back
    at = jnp.arange(TOKENS)
    return {
        "branches": branches.at[:, 0].set(False),
        "padding": (at < jnp.array([[TOKENS], [40]]))[:, None],
        "left": back & (at >= jnp.array([[0], [31]]))[:, None],
    }


def results(look, mask) -> list[np.ndarray]:
    """What is seen, and the gradients of query, key and value."""
    shape = (ROWS, TOKENS, HEADS, SIZE)
    keys = jax.random.split(jax.random.key(0), 4)
    *qkv, incoming = (jax.random.normal(k, shape).astype(jnp.bfloat16) for k in keys)
    # What padding sees is not looked at, and means of other rows are allowed.
    looks = jnp.any(mask, axis=-1)[..., None, None]
    y, back = jax.vjp(lambda *qkv: jnp.where(looks, look(*qkv, mask), 0), *qkv)
    return [np.asarray(a, np.float32) for a in (y, *back(incoming))]


def main() -> int:
    has_cudnn = attention.has_cudnn
    if not has_cudnn():
        return 3
    apart = {}
    looks = (attention.attend, attention.attend_back)
    for look, (name, mask) in itertools.product(looks, masks().items()):
        if look is attention.attend_back and name == "padding":
            continue  # it looks ahead
        ours = results(look, mask)
        attention.has_cudnn = lambda: False
        plain = results(look, mask)
        attention.has_cudnn = has_cudnn
        apart[look.__name__, name] = max(
            float(np.abs(a - b).max() / np.abs(b).max())
            for a, b in zip(ours, plain, strict=True)
        )
    print(apart)
    return int(not max(apart.values()) < 0.02)


if __name__ == "__main__":
    sys.exit(main())
