"""Folders of low-rank adapters as the package `peft` writes and opens them.

adapter_config.json         what the adapters are, and the base that they belong to
adapter_model.safetensors   base_model.model.NAME.lora_A.weight [K, D] and lora_B [F, K]

Those of a classifier (`models.classifier`) have its head beside them, whole:
base_model.model.score.weight [C, D].

PEFT multiplies B by lora_alpha / K (by lora_alpha / sqrt(K) with "use_rslora"). Here
the factor is part of B (`models.adapters`), and what is written has lora_alpha = K.

Axes: D inputs, F outputs, K the rank, C labels.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from ppg_jax.errors import UserError
from ppg_jax.files import read_json
from ppg_jax.models import adapters, hub
from ppg_jax.models import peft_kinds as kinds
from ppg_jax.models.tensor_files import ADAPTERS, names_of, read_file
from ppg_jax.models.weight_map import Family, weights

CONFIG, WEIGHTS = ADAPTERS, "adapter_model.safetensors"
_PREFIX = "base_model.model."
_THEIRS = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}
_HEAD = f"{_PREFIX}{adapters.HEAD}.weight"
_TABLE = re.compile(
    rf"\.({'|'.join(kinds.TABLES)})\.(base_layer|lora_)?|\.({adapters.HEAD})\.(lora_)"
)
_MOST = 1_000_000
_FOLDER = "a folder of adapters holds adapter_config.json, as PEFT writes it."


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters; UserError where a whole model lies beside them,
    or nothing says of what they are.

    transformers would put them into that model, whatever base they name.
    """
    if not (folder / CONFIG).is_file():
        if (folder / WEIGHTS).is_file() and not (folder / "config.json").is_file():
            raise UserError(f"{folder / CONFIG} is missing; {_FOLDER}")
        return False
    for name in ("model.safetensors", "model.safetensors.index.json"):
        if (folder / name).is_file():
            raise UserError(
                f"{folder} holds {name} and {CONFIG}; move the adapters, {CONFIG} and "
                f"{WEIGHTS}, into a folder of their own, or delete them."
            )
    return True


def base_of(folder: Path) -> str:
    """What the folder's adapters belong to; UserError if it says nothing, or names
    another revision of a hub's model than ours."""
    values = read_json(folder / CONFIG, _FOLDER)
    base, revision = values.get("base_model_name_or_path"), values.get("revision")
    ours = hub.revision_of(base) if isinstance(base, str) else ""
    if ours and revision not in (None, "", "main", ours):
        raise UserError(
            f"{folder / CONFIG}: 'revision' is {revision!r:.60}, and {base} is known "
            f"at {ours} alone; download that one and write its folder as "
            "base_model_name_or_path."
        )
    if not isinstance(base, str) or not base:
        raise UserError(
            f"{folder / CONFIG}: base_model_name_or_path is {base!r}; write the name "
            "or the folder of the model that the adapters belong to."
        )
    return base


def read(folder: Path, family: Family, layers: int, base: dict, head=None) -> dict:
    """The base's tree with the folder's adapters, and a classifier's head, in it.

    head: the kernel [D, C] of a base that is a classifier, for adapters of that which
    bring none. Raises UserError for adapters of another kind, or that do not fit.
    """
    path, file = folder / CONFIG, folder / WEIGHTS
    values = read_json(path, _FOLDER)
    kinds.require_plain(values, path, family)
    scale, rank = _scale(values, path), values["r"]
    _require_no_table(file, "lm_head" in base)
    leaves, shapes = {}, adapters.shapes(base)
    widths = [sum(shapes[module]) for module, _ in _names(family, layers)]
    most = 2 * min(rank, max(widths)) * sum(widths)
    read_all = read_file(file, most=most, described=CONFIG)
    tensors: dict[str, np.ndarray] = {}
    in_file: dict[str, str] = {}
    for tensor in read_all:
        name = _of_whole(tensor.name, family)
        if name in tensors:
            raise UserError(f"{file}: there are two tensors for {name!r}.")
        tensors[name], in_file[name] = tensor.array, tensor.name
    learned_head = {}
    if kinds.labels_texts(values):
        width = shapes[next(_names(family, layers))[0]][0]
        array = tensors.pop(_HEAD, None)
        if array is not None or values.get("task_type") == kinds.CLASSIFIES:
            head = _head(array, width, file)
        learned_head = {} if head is None else {f"{adapters.HEAD}/kernel": head}
    for module, name in _names(family, layers):
        pair = [tensors.pop(f"{name}.{_THEIRS[leaf]}", None) for leaf in _THEIRS]
        missing = [array is None for array in pair]
        if all(missing):
            continue
        if any(missing):
            raise UserError(f"{file}: {name} has one of lora_A and lora_B only.")
        a, b = (np.ascontiguousarray(array.T) for array in pair)
        inputs, outputs = shapes[module]
        if (a.shape, b.shape) != ((inputs, rank), (rank, outputs)):
            told = f"{list(pair[0].shape)} and {list(pair[1].shape)}"
            raise UserError(
                f"{file}: {name} has adapters of the shapes {told}, its base asks for "
                f"[{rank}, {inputs}] and [{outputs}, {rank}]."
            )
        leaves[f"{module}/lora_a"] = a
        leaves[f"{module}/lora_b"] = _times(b, scale, path)
    for name in tensors:
        raise UserError(
            f"{file}: tensor {in_file[name]!r} has no place in the base's model"
            f"{kinds.of_other_task(values, in_file[name])}."
        )
    if not leaves:
        raise UserError(f"{file} holds no adapters.")
    # In one go: one by one they take a quarter of a second.
    leaves = jax.device_put(leaves) | learned_head
    learned = traverse_util.unflatten_dict(leaves, sep="/")
    return adapters.join(learned, base)


def _of_whole(name: str, family: Family) -> str:
    """The name of a tensor in adapters of the language model; PEFT has it shorter in
    those of a body alone (`AutoModel`)."""
    rest = name.removeprefix(_PREFIX)
    if rest == name or name == _HEAD or rest.startswith(family.prefix):
        return name
    return _PREFIX + family.prefix + rest


def _require_no_table(file: Path, has_head: bool) -> None:
    """UserError where the adapters are not there, or bring their own token table.

    has_head: the base has an output head beside its table.
    """
    if not file.is_file():
        pickled = file.with_suffix(".bin")
        if pickled.is_file():
            raise hub.is_pickle(file, [pickled])
        raise UserError(f"{file} is missing; put the adapters' weights there.")
    for name in names_of(file):
        if (found := _TABLE.search(name)) is None:
            continue
        told = f"{file}: tensor {name!r}"
        layer, adapts = found[1] or found[3], found[2] or found[4]
        if not adapts:
            raise UserError(
                f"{told} is of the token table, which adapters here leave as it is in "
                f"the base; {kinds.MERGE}, whose table gets as many rows before."
            )
        # Merged, they would change both, of which one was adapted.
        merges = has_head or layer == adapters.HEAD
        remedy = kinds.MERGE if merges else f"train without {layer!r} in target_modules"
        raise UserError(
            f"{told} adapts {layer!r}, and adapters here are of the layers between "
            f"token table and head; {remedy}."
        )


def _times(b: np.ndarray, scale: float, path: Path) -> np.ndarray:
    with np.errstate(over="ignore"):
        scaled = b * np.float32(scale)
    if not np.isfinite(scaled).all():
        told = "'lora_alpha' makes numbers of the adapters that are not finite"
        raise UserError(f"{path}: {told}; give the one that they were trained with.")
    return scaled


def _head(array: np.ndarray | None, width: int, file: Path) -> jax.Array:
    """The kernel of a classifier's head, [C, D] in the file."""
    if array is None:
        raise UserError(f"{file}: tensor {_HEAD!r} is missing; the file is incomplete.")
    if array.shape[1:] != (width,):
        raise UserError(
            f"{file}: tensor {_HEAD!r} has shape {list(array.shape)}, its base asks "
            f"for ['*', {width}]."
        )
    return jnp.asarray(np.ascontiguousarray(array.T))


def _scale(values: dict, path: Path) -> float:
    """The factor of B A."""
    rank, alpha = values.get("r"), values.get("lora_alpha")
    for name, value in [("r", rank), ("lora_alpha", alpha)]:
        if type(value) not in (int, float) or not 0 < value <= _MOST:
            raise UserError(
                f"{path}: {name!r} is {value!r:.60}, expected a number above 0, at "
                f"most {_MOST:,}."
            )
    return alpha / (rank**0.5 if values.get("use_rslora") else rank)


def _names(family: Family, layers: int):
    """(module in the tree, its name in PEFT's file) of each linear layer."""
    for path, name, _ in weights(family.modules, layers):
        module, _, leaf = path.rpartition("/")
        if leaf == "kernel":
            yield module, _PREFIX + family.full_name(name.removesuffix(".weight"))


def config_of(params: dict, family: Family, layers: int, base: str) -> dict:
    """adapter_config.json of a tree with adapters."""
    rank, classifies = adapters.rank(params), adapters.HEAD in params
    return kinds.PLAIN | {
        "base_model_name_or_path": base,
        "fan_in_fan_out": any(m.kind == "conv1d" for m in family.modules),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": [adapters.HEAD] if classifies else None,
        "r": rank,
        "target_modules": _targets(params, family, layers),
        "task_type": kinds.CLASSIFIES if classifies else "CAUSAL_LM",
        "use_rslora": False,
    }


def _targets(params: dict, family: Family, layers: int) -> list[str]:
    """The layers with adapters: last parts of their names, or the names of layers whose
    last part others have, too, without adapters."""
    leaves = traverse_util.flatten_dict(params, sep="/")
    names = {
        name.removeprefix(_PREFIX): f"{module}/lora_a" in leaves
        for module, name in _names(family, layers)
    }
    mixed = {n.rpartition(".")[2] for n, adapted in names.items() if not adapted}
    ends = {n: n.rpartition(".")[2] for n, adapted in names.items() if adapted}
    return sorted({n if end in mixed else end for n, end in ends.items()})


def tensors_of(params: dict, family: Family, layers: int) -> dict[str, np.ndarray]:
    """adapter_model.safetensors of a tree with adapters."""
    leaves = traverse_util.flatten_dict(params, sep="/")
    head = leaves.get(f"{adapters.HEAD}/kernel")
    tensors = {} if head is None else {_HEAD: np.ascontiguousarray(np.asarray(head).T)}
    return tensors | {
        f"{name}.{theirs}": np.ascontiguousarray(np.asarray(leaves[place]).T)
        for module, name in _names(family, layers)
        for leaf, theirs in _THEIRS.items()
        if (place := f"{module}/{leaf}") in leaves
    }
