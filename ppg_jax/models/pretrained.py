"""Hugging Face model folders in and out: weights, sizes and tokenizer.

Three kinds come in: GPT-2 (DialoGPT too), DistilBERT, and BERT encoders of the MiniLM
kind, which become DistilBERTs. Two go out, GPT-2 and DistilBERT, in the layout that
`transformers` opens; `weight_map` has the names. Only safetensors files are opened: a
pickle can run code. Parameters are float32 here and on export, whatever the file had.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from ppg_jax.data.tokenization import load_tokenizer
from ppg_jax.errors import UserError
from ppg_jax.files import read_json
from ppg_jax.models import hub
from ppg_jax.models.distilbert import DistilBert, DistilBertConfig
from ppg_jax.models.gpt2 import GPT2, GPT2Config
from ppg_jax.models.weight_map import FAMILIES, Family, weights

_MODELS = {
    "gpt2": (GPT2, GPT2Config),
    "distilbert": (DistilBert, DistilBertConfig),
    "bert": (DistilBert, DistilBertConfig),
}


class _Tensor(NamedTuple):
    array: np.ndarray  # float32
    name: str  # as it stands in the file
    file: Path


def load(path_or_hub_id, *, dtype=jnp.float32, num_labels: int = 2, seed: int = 0):
    """A folder, a hub id or "minilm" -> (linen module, float32 params, tokenizer).

    Hub ids: microsoft/DialoGPT-small, microsoft/DialoGPT-medium, gpt2 and
    distilbert-base-uncased, each at the revision of its manifest under third_party/.
    dtype: compute type of the module. An encoder without a classifier gets one of
    `num_labels` outputs, drawn from `seed`; a classifier in the file has its own size.

    Raises:
      UserError: the folder is not a complete, sound model of a known kind.
    """
    folder = hub.locate(path_or_hub_id)
    kind, config = _read_config(folder / "config.json")
    tokenizer = _load_tokenizer(folder)
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, config.json says "
            f"vocab_size {config.vocab_size}; they belong to different models."
        )
    family = FAMILIES[kind]
    file, tensors = _read_tensors(folder, family)
    _check_layers(tensors, getattr(config, family.layers), file)
    _fold(kind, tensors, file)
    has_head = any(map(family.in_head, tensors))
    if family.head:
        labels = _label_count(tensors) if has_head else num_labels
        config = dataclasses.replace(config, num_labels=labels)
    model = _MODELS[kind][0](config, dtype=dtype)
    params = _fill(model, family, has_head, tensors, file)
    if family.head and not has_head:
        first = jnp.zeros((1, config.dim))
        head = model.init(jax.random.key(seed), first, method="classify")
        params |= head["params"]
    return model, params, tokenizer


def _check_layers(tensors: dict[str, _Tensor], layers: int, file: Path) -> None:
    # Before the model is built in the size that config.json states.
    found = {m[0] for name in tensors if (m := re.search(r"\.\d+\.", name))}
    if len(found) != layers:
        raise UserError(
            f"{file}: holds {len(found)} layers, config.json says {layers}; the file "
            "is incomplete, or they belong to different models."
        )


def _label_count(tensors: dict[str, _Tensor]) -> int:
    # Whatever is missing or odd about them is said by `_fill`, as of any other tensor.
    for name in ("classifier.weight", "classifier.bias"):
        if name in tensors and tensors[name].array.size:
            return tensors[name].array.shape[0]
    return 1


def _fold(kind: str, tensors: dict[str, _Tensor], file: Path) -> None:
    """Takes out what the architecture has no place of its own for."""
    if kind == "gpt2":
        for name in ("lm_head.weight", "lm_head.decoder.weight"):
            _drop_tied_head(tensors.pop(name, None), tensors.get("wte.weight"))
    if kind == "bert":
        _fold_token_types(tensors, file)


def _drop_tied_head(head: _Tensor | None, table: _Tensor | None) -> None:
    if head and table and not np.array_equal(head.array, table.array):
        raise UserError(
            f"{head.file}: tensor {head.name!r} differs from the token embedding; "
            "GPT-2 has one matrix for both, so this is another model."
        )


def _fold_token_types(tensors: dict[str, _Tensor], file: Path) -> None:
    """One text alone has token type 0 throughout: its row goes to every position."""
    name = "embeddings.token_type_embeddings.weight"
    types = tensors.pop(name, None)
    if types is None:
        raise _missing(file, name)
    name = "embeddings.position_embeddings.weight"
    if name in tensors:
        table = tensors[name]
        if types.array.shape[1:] != table.array.shape[1:] or not types.array.size:
            raise _misshapen(types, ["*", *table.array.shape[1:]])
        tensors[name] = table._replace(array=table.array + types.array[:1])


def _shapes(model) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path; nothing is computed."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    tree = jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]
    leaves = traverse_util.flatten_dict(tree, sep="/")
    return {path: leaf.shape for path, leaf in leaves.items()}


def _fill(model, family: Family, has_head: bool, tensors, file: Path) -> dict:
    """Checkpoint -> params tree; empties `tensors`, or says what does not fit."""
    params, shapes = {}, _shapes(model)
    modules = family.modules + (family.head if has_head else ())
    layers = getattr(model.config, family.layers)
    for path, name, transposed in weights(modules, layers):
        if name not in tensors:
            raise _missing(file, family.full_name(name))
        tensor = tensors.pop(name)
        expected = shapes[path][::-1] if transposed else shapes[path]
        if tensor.array.shape != expected:
            raise _misshapen(tensor, list(expected))
        params[path] = jnp.asarray(tensor.array.T if transposed else tensor.array)
    for tensor in tensors.values():
        raise UserError(
            f"{tensor.file}: tensor {tensor.name!r} has no place in this model; "
            "config.json describes another one."
        )
    return traverse_util.unflatten_dict(params, sep="/")


def _missing(file: Path, name: str) -> UserError:
    return UserError(f"{file}: tensor {name!r} is missing; the file is incomplete.")


def _misshapen(tensor: _Tensor, expected: list) -> UserError:
    return UserError(
        f"{tensor.file}: tensor {tensor.name!r} has shape {list(tensor.array.shape)}, "
        f"config.json asks for {expected}."
    )


_FOLDER = "a model folder holds config.json, model.safetensors and tokenizer files."


def _read_config(path: Path) -> tuple[str, GPT2Config | DistilBertConfig]:
    values = read_json(path, _FOLDER)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join(f'"{name}"' for name in FAMILIES)
        raise UserError(f'{path}: "model_type" is {kind!r}, expected one of {known}.')
    for name, expected in FAMILIES[kind].fixed.items():
        _expect(path, name, values.get(name, expected), expected)
    _, make = _MODELS[kind]
    settings = {
        field.name: _setting(values, field, FAMILIES[kind], path)
        for field in dataclasses.fields(make)
        if field.name != "num_labels"  # the classifier's own shape tells
    }
    if values.get("n_inner") is not None and kind == "gpt2":
        _expect(path, "n_inner", values["n_inner"], 4 * settings["n_embd"])
    try:
        return kind, make(**settings)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _expect(path: Path, name: str, value, expected) -> None:
    if value != expected:
        raise UserError(
            f"{path}: {name!r} is {value!r}, this architecture has {expected!r} only."
        )


def _setting(values: dict, field: dataclasses.Field, family: Family, path: Path):
    """One field of config.json: a size must be there, a rate has a default."""
    name = family.fields.get(field.name, field.name)
    if field.type is int:
        value, expected = values.get(name), "a positive integer"
        sound = type(value) is int and 0 < value < 2**31
    else:
        value, expected = values.get(name, field.default), "a number from 0 to below 1"
        sound = type(value) in (int, float) and 0 <= value < 1
    if not sound:
        raise UserError(f"{path}: {name!r} is {value!r}, expected {expected}.")
    return value


def _read_tensors(folder: Path, family: Family) -> tuple[Path, dict[str, _Tensor]]:
    """The file that lists the tensors, and those that matter, without their prefix."""
    single, index = (folder / f"model.safetensors{end}" for end in ("", ".index.json"))
    if single.is_file():
        file, shards = single, {single: None}
    elif index.is_file():
        file, shards = index, _read_index(index)
    else:
        raise hub.no_weights(folder)
    tensors: dict[str, _Tensor] = {}
    for shard, listed in shards.items():
        for tensor in _read_shard(shard, listed, family):
            name = tensor.name.removeprefix(family.prefix)
            if name in tensors:
                both = f"{tensor.name!r} and {tensors[name].name!r}"
                raise UserError(f"{shard}: tensors {both} are one and the same.")
            tensors[name] = tensor
    return file, tensors


def _read_index(index: Path) -> dict[Path, set[str]]:
    """The shards, each with the names of the tensors that it should hold."""
    weight_map = read_json(index, _FOLDER).get("weight_map")
    if not isinstance(weight_map, dict):
        raise UserError(f'{index}: expected a "weight_map" of tensor and file names.')
    shards: dict[Path, set[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not re.fullmatch(r"\w[\w.-]*", shard):
            raise UserError(
                f"{index}: tensor {name!r} is said to be in {shard!r}, expected the "
                "name of a file in this folder."
            )
        shards.setdefault(index.with_name(shard), set()).add(name)
    return shards


def _read_shard(
    file: Path, listed: set[str] | None, family: Family
) -> Iterator[_Tensor]:
    """The tensors of one file; `listed` are the names that an index gives it."""
    try:
        with safetensors.safe_open(file, framework="numpy") as shard:
            names = set(shard.keys())
            for name in sorted(names ^ (names if listed is None else listed)):
                fault = "not in the index" if name in names else "missing"
                raise UserError(f"{file}: tensor {name!r} is {fault}.")
            for name in sorted(names):
                if not re.fullmatch(family.skipped, name.removeprefix(family.prefix)):
                    yield _Tensor(_read_float32(shard, name, file), name, file)
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{file}: no complete safetensors file ({error}); get it again."
        ) from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}.") from None


def _read_float32(shard, name: str, file: Path) -> np.ndarray:
    kind = shard.get_slice(name).get_dtype()
    # Each half-precision number is a float32 number too; a float64 need not be.
    if kind not in ("F32", "F16", "BF16"):
        raise UserError(
            f"{file}: tensor {name!r} has type {kind}, expected F32, F16 or BF16."
        )
    return shard.get_tensor(name).astype(np.float32)


def _load_tokenizer(folder: Path):
    try:
        return load_tokenizer(folder)
    except UserError:
        raise
    except Exception as error:  # the tokenizers library raises plain Exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder}: the tokenizer is damaged ({reason}).") from None


def export(model, params, tokenizer, directory) -> Path:
    """Writes a folder that `load` and transformers open; returns its path.

    It appears when it is complete, in place of an older model of that name if there is
    one. params: the float32 tree of `model`; the tensors go out bit for bit.

    Raises:
      UserError: `directory` holds something else, or cannot be written.
      ValueError: `params` are not those of `model`.
    """
    directory = Path(directory)
    is_model = (directory / "config.json").is_file()
    if directory.exists() and not is_model and _occupied(directory):
        raise UserError(
            f"{directory} is there already and is no model folder; name a new one."
        )
    config, tensors = _to_checkpoint(model, params, tokenizer)
    partial = directory.with_name(f".{directory.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (partial / "config.json").write_text(text, encoding="utf-8")
        file = partial / "model.safetensors"
        safetensors.numpy.save_file(tensors, file, metadata={"format": "pt"})
        shutil.copymode(
            partial / "config.json", file
        )  # it is made unreadable to others
        tokenizer.save_pretrained(partial)
        _replace(partial, directory)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot write {directory}: {error}.") from None
    return directory


def _occupied(path: Path) -> bool:
    return not path.is_dir() or any(path.iterdir())


def _replace(partial: Path, directory: Path) -> None:
    old = directory.with_name(f".{directory.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def _to_checkpoint(model, params, tokenizer) -> tuple[dict, dict[str, np.ndarray]]:
    """config.json, and the tensors under the names of transformers."""
    kind = "gpt2" if isinstance(model, GPT2) else "distilbert"
    family, settings = FAMILIES[kind], dataclasses.asdict(model.config)
    leaves = traverse_util.flatten_dict(params, sep="/")
    if {path: leaf.shape for path, leaf in leaves.items()} != _shapes(model):
        raise ValueError("params do not fit this model; build it with their config.")
    modules = family.modules + family.head
    tensors = {}
    for path, name, transposed in weights(modules, settings[family.layers]):
        array = np.asarray(leaves[path], np.float32)
        # safetensors writes memory as it lies: a transposed view would come out wrong.
        array = np.ascontiguousarray(array.T if transposed else array)
        tensors[family.full_name(name)] = array
    if kind == "gpt2":
        settings |= {
            "architectures": ["GPT2LMHeadModel"],
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }
    else:
        labels = [f"LABEL_{i}" for i in range(settings.pop("num_labels"))]
        settings |= {
            "architectures": ["DistilBertForSequenceClassification"],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }
    settings |= {"dtype": "float32", "pad_token_id": tokenizer.pad_token_id}
    return {"model_type": kind} | family.fixed | settings, tensors
