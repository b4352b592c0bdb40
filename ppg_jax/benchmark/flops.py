"""Floating-point operations that a job needs, and what a device could do in a second.

Axes: B rows, T tokens, M targets.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ppg_jax.benchmark.workload import Job, Workload
from ppg_jax.data.batching import Batch
from ppg_jax.models import product
from ppg_jax.models.gpt2 import GPT2Config

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
    work, config = Workload(job), _config(job.generator)
    batches = {
        form: [part.batch for parts in work.updates(form) for part in parts]
        for form in ("dialogue", "instance")
    }
    passes = 3 if job.suite == "train" else 1  # the gradient of a product is two
    return Need(
        tokens=sum(int((b.branch_ids >= 0).sum()) for b in batches["instance"]),
        flops={
            form: passes * sum(forward_flops(config, b) for b in made)
            for form, made in batches.items()
        },
    )


def forward_flops(config: GPT2Config, batch: Batch) -> int:
    """Of the log-probs of a batch's targets: what is needed, in products alone.

    Counted, 2 FLOPs for a weight and a token: every real token in every layer; of the
    last layer beyond its queries, keys and values, and of the head, the targets; of
    attention, the pairs that the mask lets see each other. Not counted: padding,
    embeddings, norms, activations, softmax, the optimizer, work that is done again.
    """
    width, whole = config.n_embd, config.n_layer - 1
    seen = np.asarray(batch.position_ids) + 1  # a token sees all before its position
    real = np.asarray(batch.branch_ids) >= 0
    counted = np.asarray(batch.target_mask)
    at_targets = np.take_along_axis(seen, np.asarray(batch.target_index), axis=1)
    tokens, targets = int(real.sum()), int(counted.sum())
    projections = 6 * width**2 * config.n_layer * tokens
    rest = 18 * width**2 * (whole * tokens + targets)
    pairs = whole * int(seen[real].sum()) + int(at_targets[counted].sum())
    head = 2 * width * config.vocab_size * targets
    return projections + rest + 4 * width * pairs + head


def _config(folder: str) -> GPT2Config:
    """The sizes of a generator's folder, without its weights."""
    told = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    names = {field.name for field in dataclasses.fields(GPT2Config)}
    return GPT2Config(**{name: told[name] for name in names & told.keys()})


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
