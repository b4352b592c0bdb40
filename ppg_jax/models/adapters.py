"""Low-rank adapters (Hu et al., 2021, LoRA, https://arxiv.org/abs/2106.09685).

A linear layer with an adapter holds "lora_a" [D, K] and "lora_b" [K, F] beside its
kernel [D, F] and computes x W + (x A) B. Only the two are trained; everything else is
the base, whose arrays any number of trees share. PEFT's factor alpha / K is part of B
here, so that alpha is K. A head that tells labels (`models.classifier`) is of no base,
and is trained beside them.

Axes: D inputs, F outputs, K the rank.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ppg_jax.models.dense import LEAVES
from ppg_jax.training.train_state import params_sha256

HEAD = "score"  # of a classifier


def add(params: dict, rank: int, seed: int) -> dict:
    """The tree with a new adapter at each linear layer of its blocks.

    A is uniform in +-1 / sqrt(D), drawn from the seed and the layer's name; B is 0, so
    nothing changes yet.
    """
    leaves = {}
    for path, (inputs, outputs) in shapes(params).items():
        if "/" not in path:
            continue  # of the whole model: its embedding, or its head
        number = hashlib.sha256(f"{seed}/{path}".encode()).digest()
        rng = np.random.default_rng(list(number))
        a = rng.uniform(-1, 1, (inputs, rank)) / np.sqrt(inputs)
        leaves[f"{path}/lora_a"] = jnp.asarray(a, jnp.float32)
        leaves[f"{path}/lora_b"] = jnp.zeros((rank, outputs), jnp.float32)
    return join(traverse_util.unflatten_dict(leaves, sep="/"), params)


def has(params: dict) -> bool:
    """Whether any layer has an adapter."""
    return any(
        name in LEAVES or (isinstance(part, dict) and has(part))
        for name, part in params.items()
    )


def split(params: dict) -> tuple[dict, dict]:
    """(what is trained, the rest): the adapters, with the head of a classifier, and the
    base; or all and {}."""
    if not has(params):
        return params, {}
    return _only(params, True), _only(params, False)


def _only(tree: dict, adapters: bool) -> dict:
    kept = {}
    for name, part in tree.items():
        if name == HEAD:
            if adapters:
                kept[name] = part
        elif isinstance(part, dict):
            part = _only(part, adapters)
            if part:
                kept[name] = part
        elif (name in LEAVES) == adapters:
            kept[name] = part
    return kept


def join(trained: dict, base: dict) -> dict:
    """What `split` has parted; no array is copied."""
    joined = dict(base)
    for name, part in trained.items():
        both = isinstance(part, dict) and isinstance(base.get(name), dict)
        joined[name] = join(part, base[name]) if both else part
    return joined


def merge(params: dict) -> dict:
    """The tree with its adapters added to the kernels: W + A B."""
    made = {
        name: merge(part) if isinstance(part, dict) else part
        for name, part in params.items()
        if name not in LEAVES
    }
    if "lora_a" in params:
        a, b = (params[name] for name in LEAVES)
        made["kernel"] = params["kernel"] + jnp.matmul(a, b, precision="highest")
    return made


def shapes(params: dict) -> dict[str, tuple[int, int]]:
    """[D, F] of each linear layer by its path, whatever form its weights have."""
    found = {}
    for path, leaf in traverse_util.flatten_dict(params, sep="/").items():
        layer, _, name = path.rpartition("/")
        if name == "kernel":
            found[layer] = leaf.shape
        elif name == "weight":
            found[layer] = leaf.shape[::-1]
    return found


def rank(params: dict) -> int:
    """Of the adapters, which are all alike; 0 without any."""
    leaves = jax.tree_util.tree_leaves_with_path(split(params)[0])
    ranks = {a.shape[1] for path, a in leaves if path[-1].key == "lora_a"}
    return max(ranks, default=0)


def sha256(params: dict) -> str:
    """A name for what was trained: SHA-256 of the adapters, or of a whole model."""
    return params_sha256(split(params)[0])
