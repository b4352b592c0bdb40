"""Floating-point operations that a job needs, and what a device could do in a second.

Axes: B rows, T tokens, M targets; D inputs, F outputs, K the rank of adapters.
"""

import re
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ppg_jax.benchmark.workload import Job, Workload
from ppg_jax.data.batching import Batch
from ppg_jax.files import read_json
from ppg_jax.models import config_json, peft, pretrained, product
from ppg_jax.models.gpt2 import GPT2Config
from ppg_jax.models.llama import LlamaConfig
from ppg_jax.models.tensor_files import FOLDER

# Dense peaks in FLOP/s, of the vendor's data sheets: products of bfloat16, of float32
# rounded to TF32, and of float32 itself. A device has all words of its line's name; the
# first line that fits counts.
PEAKS = {
    "H100 PCIe": {"bfloat16": 756e12, "tf32": 378e12, "float32": 51e12},
    "H100 NVL": {"bfloat16": 835e12, "tf32": 417e12, "float32": 60e12},
    "H100": {"bfloat16": 989e12, "tf32": 494e12, "float32": 67e12},
    "H200": {"bfloat16": 989e12, "tf32": 494e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "tf32": 156e12, "float32": 19.5e12},
    "L40S": {"bfloat16": 362e12, "tf32": 183e12, "float32": 91.6e12},
    "L4": {"bfloat16": 121e12, "tf32": 60e12, "float32": 30.3e12},
}
SUITES = ("train", "score")


class Need(NamedTuple):
    """What one lap has to compute, without padding."""

    tokens: int  # of the instances, each with its own prompt: the same for everyone
    flops: dict[str, int]  # by form: "dialogue" reads shared prefixes once


def need(job: Job) -> Need | None:
    """Of one lap of `train` or `score`; None for other suites, where it depends on what
    is sampled.
    """
    if job.suite not in SUITES:
        return None
    work, (config, rank) = Workload(job), _config(Path(job.generator))
    batches = {
        form: [part.batch for parts in work.updates(form) for part in parts]
        for form in ("dialogue", "instance")
    }
    trains = job.suite == "train"
    return Need(
        tokens=sum(int((b.branch_ids >= 0).sum()) for b in batches["instance"]),
        flops={
            form: sum(_flops(config, rank, trains, b) for b in made)
            for form, made in batches.items()
        },
    )


def _flops(config, rank: int, trains: bool, batch: Batch) -> int:
    whole = forward_flops(config, batch)
    if not trains:
        return whole
    if not rank:
        return 3 * whole  # the gradient of a product is two
    # That of a frozen weight is one.
    learned = _weights_flops(config, batch, rank) + _attention_flops(config, batch)
    frozen = _weights_flops(config, batch) + _head_flops(config, batch)
    return 3 * learned + 2 * frozen


def forward_flops(config: GPT2Config | LlamaConfig, batch: Batch) -> int:
    """Of the log-probs of a batch's targets: what is needed, in products alone.

    Counted, 2 FLOPs for a weight and a token: every real token in every layer; of the
    last layer beyond its queries, keys and values, and of the head, the targets; of
    attention, the pairs that the mask lets see each other. Not counted: padding,
    embeddings, norms, activations, softmax, the optimizer, work that is done again.
    """
    parts = _weights_flops, _attention_flops, _head_flops
    return sum(part(config, batch) for part in parts)


def _weights_flops(config, batch: Batch, rank: int = 0) -> int:
    """Of the linear layers, or of adapters of that rank beside them."""

    def weights(shapes) -> int:
        return sum(rank * (d + f) if rank else d * f for d, f in shapes)

    layers = _layers(config)
    read, rest = map(weights, _shapes(config))
    tokens = int((np.asarray(batch.branch_ids) >= 0).sum())
    rest_of = (layers - 1) * tokens + int(np.asarray(batch.target_mask).sum())
    return 2 * (read * layers * tokens + rest * rest_of)


def _attention_flops(config, batch: Batch) -> int:
    seen = np.asarray(batch.position_ids) + 1  # a token sees all before its position
    real, counted = np.asarray(batch.branch_ids) >= 0, np.asarray(batch.target_mask)
    at_targets = np.take_along_axis(seen, np.asarray(batch.target_index), axis=1)
    whole = _layers(config) - 1
    pairs = whole * int(seen[real].sum()) + int(at_targets[counted].sum())
    return 4 * _width(config) * pairs


def _head_flops(config, batch: Batch) -> int:
    return 2 * _width(config) * config.vocab_size * int(np.sum(batch.target_mask))


def _shapes(config) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(D, F) of a layer's queries, keys and values, and of its other linear layers."""
    width = _width(config)
    if isinstance(config, GPT2Config):
        inner = 4 * width
        return [(width, 3 * width)], [(width, width), (width, inner), (inner, width)]
    keys = config.num_key_value_heads * config.head_size
    inner = config.intermediate_size
    rest = [(width, width), (width, inner), (width, inner), (inner, width)]
    return [(width, width), (width, keys), (width, keys)], rest


def _width(config) -> int:
    return config.n_embd if isinstance(config, GPT2Config) else config.hidden_size


def _layers(config) -> int:
    if isinstance(config, GPT2Config):
        return config.n_layer
    return config.num_hidden_layers


def _config(folder: Path) -> tuple[GPT2Config | LlamaConfig, int]:
    """The sizes of a generator's folder, without weights, and its adapters' rank."""
    rank = 0
    if peft.is_adapter(folder):
        rank = read_json(folder / peft.CONFIG, FOLDER)["r"]
        folder = Path(pretrained.base_of(folder))
    path = folder / "config.json"
    return config_json.read(read_json(path, FOLDER), path)[1], rank


def products(dtype: str, weights: str = "float32") -> str:
    """What the device multiplies when arrays are `dtype`, and weights what they are.

    On an NVIDIA GPU a product of float32 rounds to TF32, unless JAX is told otherwise;
    on a CPU it rounds if `ppg_jax.models.product` does.
    """
    if weights != "float32":
        return weights
    if product.rounds():
        return "bfloat16"
    precise = jax.config.jax_default_matmul_precision in ("highest", "float32")
    if dtype != "float32" or precise or jax.default_backend() != "gpu":
        return dtype
    return "tf32"


def peak(device_kind: str, kind: str) -> float | None:
    """FLOP/s of a device for products of a kind; None if it is not in the table."""
    words = set(re.split(r"[ -]", device_kind))
    for name, peaks in PEAKS.items():
        if words.issuperset(name.split()):
            return peaks.get(kind)
    return None
