"""Hugging Face model folders in and out: weights, sizes and tokenizer.

Four kinds come in: GPT-2 (DialoGPT too), Llama (SmolLM2 too), DistilBERT, and BERT
encoders of the MiniLM kind, which become DistilBERTs. Three go out, in the layout that
`transformers` opens; `weight_map` has the names. A Llama may also come from a GGUF
file, and adapters from a folder of PEFT's. Parameters are float32 here and on export,
whatever the file had.
"""

import dataclasses
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from ppg_jax import run_dir
from ppg_jax.data import tokenization
from ppg_jax.errors import UserError
from ppg_jax.files import read_json, write_json
from ppg_jax.models import adapters, config_json, gguf, hub, peft
from ppg_jax.models.decoder import Decoder
from ppg_jax.models.distilbert import DistilBertConfig
from ppg_jax.models.tensor_files import (
    FOLDER,
    Tensor,
    finite,
    read_folder,
    write_folder,
)
from ppg_jax.models.weight_map import FAMILIES, Family, weights


def load(
    path_or_hub_id,
    *,
    dtype=jnp.float32,
    num_labels: int = 2,
    seed: int = 0,
    bases: dict | None = None,
    prepare: Callable[[dict], dict] = lambda base: base,
):
    """A folder, a GGUF file or a name -> (linen module, float32 params, tokenizer).

    Names: microsoft/DialoGPT-small, microsoft/DialoGPT-medium, gpt2 and
    distilbert-base-uncased of the hub, each at the revision of its manifest under
    third_party/; minilm and smollm2 of packages. dtype: compute type of the module. An
    encoder without a classifier gets one of `num_labels` outputs, drawn from `seed`, or
    is refused if that is 0; a classifier in the file has its own size.

    A folder of adapters names its base, which is loaded, too: the parameters are those
    of the base with adapters in them. bases: base models by name; what is in it is not
    loaded again, so that several such trees share the arrays. prepare: what is made of
    a base's parameters when it is loaded, as of `models.quantize`.

    Raises:
      UserError: it is not a complete, sound model of a known kind.
    """
    place = hub.locate(path_or_hub_id)
    if peft.is_adapter(place):
        loaded = _load_adapted(place, dtype, {} if bases is None else bases, prepare)
    else:
        loaded = _load_whole(place, dtype, num_labels, seed)
    run_dir.require_sound(place, lambda: adapters.sha256(loaded[1]))
    model, params, tokenizer = loaded
    return model, _on_device(params), tokenizer


def _on_device(params: dict) -> dict:
    """The tree, changed in place: each array of numpy goes when it has been copied."""
    for name, part in params.items():
        params[name] = (_on_device if isinstance(part, dict) else jnp.asarray)(part)
    return params


def _load_whole(place: Path, dtype, num_labels: int, seed: int):
    """What `load` returns, its parameters still as numpy has them, without a copy."""
    file, kind, config, tensors, tokenizer = _read(place)
    # A vocabulary may have gaps: what counts is the largest id.
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    if size > config.vocab_size:
        raise UserError(
            f"{place}: the tokenizer has {size} tokens, config.json says "
            f"vocab_size {config.vocab_size}; they belong to different models."
        )
    family = FAMILIES[kind]
    _check_layers(tensors, getattr(config, family.layers), file)
    has_head = _fold(family, kind, config, tensors, file)
    classifies = isinstance(config, DistilBertConfig)
    if classifies:
        if not (has_head or num_labels):
            raise UserError(
                f"{file} has no classifier, which a critic is; give the model/ of a "
                "finished critic."
            )
        labels = _label_count(tensors) if has_head else num_labels
        config = dataclasses.replace(config, num_labels=labels)
    model = config_json.MODELS[kind][0](config, dtype=dtype)
    params = _fill(model, family, has_head, tensors, file)
    if classifies and not has_head:
        first = jnp.zeros((1, config.dim))
        params |= model.init(jax.random.key(seed), first, method="classify")["params"]
    return model, params, tokenizer


def base_of(folder) -> str:
    """What `load` finds the base of a folder's adapters by; "" of a whole model."""
    folder = Path(folder).expanduser()
    if not peft.is_adapter(folder):
        return ""
    base = peft.base_of(folder)
    # A stage of the same run directory is named from the folder on.
    return str((folder / base).resolve()) if (folder / base).exists() else base


def _named_from(directory: Path, base: str) -> str:
    """How adapters in a folder name their base; see `base_of`."""
    path, directory = Path(base).expanduser().resolve(), directory.resolve()
    if not path.exists():
        return base
    # Of the same run directory, which may be moved.
    near = path.is_relative_to(directory.parent.parent)
    return os.path.relpath(path, directory) if near else str(path)


def _load_adapted(folder: Path, dtype, bases: dict, prepare):
    """The base that the folder names, with its adapters."""
    base = base_of(folder)
    if base not in bases:
        place, model = hub.locate(base), None
        if not peft.is_adapter(place):
            model, params, tokenizer = _load_whole(place, dtype, 2, 0)
        if not isinstance(model, Decoder):
            raise UserError(
                f"{folder / peft.CONFIG}: its base {base} is no whole GPT-2 or Llama; "
                "write the name or the folder of one as base_model_name_or_path."
            )
        run_dir.require_sound(place, lambda: adapters.sha256(params))
        params = prepare(params)
        bases[base] = model, _on_device(params), tokenizer
    model, params, tokenizer = bases[base]
    kind = config_json.kind_of(model)
    params = peft.read(folder, FAMILIES[kind], config_json.layers_of(model), params)
    if _has_tokenizer(folder):
        tokenizer = tokenization.load_tokenizer(folder)
    return model.clone(dtype=dtype), params, tokenizer


def _has_tokenizer(folder: Path) -> bool:
    """Whether a folder of adapters has its own, and not that of its base."""
    return any((folder / n).exists() for n in ("tokenizer.json", "vocab.json"))


def _read(place: Path):
    """(file that is named in errors, kind, config, tensors, tokenizer) of a model."""
    if place.suffix == ".gguf":
        values, arrays = gguf.read(place)
        kind, config = config_json.read(values, place)
        prefix = FAMILIES[kind].prefix
        tensors = {
            name.removeprefix(prefix): Tensor(finite(array, name, place), name, place)
            for name, array in arrays.items()
        }
        return place, kind, config, tensors, gguf.tokenizer(place)
    path = place / "config.json"
    kind, config = config_json.read(read_json(path, FOLDER), path)
    tokenizer = tokenization.load_tokenizer(place)
    family = FAMILIES[kind]
    shapes = config_json.shapes_of(config_json.MODELS[kind][0](config)).values()
    # A head that is tied may be there a second time, and other small ones beside it.
    most = 2 * sum(map(math.prod, shapes)) + (1 << 20)
    file, tensors = read_folder(place, family.prefix, family.skipped, most)
    return file, kind, config, tensors, tokenizer


def load_tokenizer(path_or_hub_id):
    """The tokenizer alone of what `load` loads; UserError if it has none."""
    place = hub.locate(path_or_hub_id)
    if place.suffix == ".gguf":
        return gguf.tokenizer(place)
    if peft.is_adapter(place) and not _has_tokenizer(place):
        return load_tokenizer(base_of(place))
    return tokenization.load_tokenizer(place)


def _check_layers(tensors: dict[str, Tensor], layers: int, file: Path) -> None:
    # Before the model is built in the size that config.json states.
    found = {m[0] for name in tensors if (m := re.search(r"\.\d+\.", name))}
    if len(found) != layers:
        raise UserError(
            f"{file}: holds {len(found)} layers, config.json says {layers}; the file "
            "is incomplete, or they belong to different models."
        )


def _label_count(tensors: dict[str, Tensor]) -> int:
    # Whatever is missing or odd about them is said by `_fill`, as of any other tensor.
    for name in ("classifier.weight", "classifier.bias"):
        if name in tensors and tensors[name].array.size:
            return tensors[name].array.shape[0]
    return 1


def _fold(family: Family, kind: str, config, tensors, file: Path) -> bool:
    """Takes out what the architecture has no place of its own for; whether what is
    left has a head."""
    if kind == "bert":
        _fold_token_types(tensors, file)
    if getattr(config, "tie_word_embeddings", bool(family.tied)):
        table = family.modules[0].name + ".weight"
        for name in family.tied:
            if head := tensors.pop(name, None):  # it may be there under this name alone
                _require_tied(head, tensors.setdefault(table, head))
        return False
    # A language model is none without its head; a classifier's may be made anew.
    if not family.tied:
        _require_own_head(family, tensors, file)
    return bool(family.tied) or any(map(family.in_head, tensors))


def _require_tied(head: Tensor, table: Tensor) -> None:
    if not np.array_equal(head.array, table.array):
        raise UserError(
            f"{head.file}: tensor {head.name!r} differs from the token embedding; "
            "the model has one matrix for both, so this is another model."
        )


def _require_own_head(family: Family, tensors, file: Path) -> None:
    """A classifier of another form is told as that, not as a part of ours."""
    found = {name.rpartition(".")[0] for name in tensors if family.in_head(name)}
    lacking = [m.name for m in family.head if m.name not in found]
    if found and lacking:
        raise UserError(
            f"{file}: its head has {', '.join(sorted(found))} and no "
            f"{', '.join(lacking)}, so it is of another form than DistilBERT's; give "
            "the encoder alone, as its base model's save_pretrained writes it."
        )


def _fold_token_types(tensors: dict[str, Tensor], file: Path) -> None:
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


def _fill(model, family: Family, has_head: bool, tensors, file: Path) -> dict:
    """Checkpoint -> params tree; empties `tensors`, or says what does not fit."""
    params, shapes = {}, config_json.shapes_of(model)
    modules = family.modules + (family.head if has_head else ())
    for path, name, transposed in weights(modules, config_json.layers_of(model)):
        if name not in tensors:
            raise _missing(file, family.full_name(name))
        tensor = tensors.pop(name)
        expected = shapes[path][::-1] if transposed else shapes[path]
        if tensor.array.shape != expected:
            raise _misshapen(tensor, list(expected))
        params[path] = tensor.array.T if transposed else tensor.array
    for tensor in tensors.values():
        raise UserError(
            f"{tensor.file}: tensor {tensor.name!r} has no place in this model; "
            "config.json describes one without it."
        )
    return traverse_util.unflatten_dict(params, sep="/")


def _missing(file: Path, name: str) -> UserError:
    return UserError(f"{file}: tensor {name!r} is missing; the file is incomplete.")


def _misshapen(tensor: Tensor, expected: list) -> UserError:
    return UserError(
        f"{tensor.file}: tensor {tensor.name!r} has shape {list(tensor.array.shape)}, "
        f"config.json asks for {expected}."
    )


def export(model, params, tokenizer, directory, base: str = "") -> Path:
    """Writes a folder that `load` and transformers open; returns its path.

    It appears when it is complete, in place of an older model of that name if there is
    one. params: the float32 tree of `model`; the tensors go out bit for bit. Of a tree
    with adapters these alone, as PEFT writes them; base: what `load` finds the base by,
    which may have the tokenizer (None), too.

    Raises:
      UserError: `directory` holds something else, or cannot be written.
      ValueError: `params` are not those of `model`.
    """
    directory = Path(directory)
    if base:
        of = FAMILIES[config_json.kind_of(model)], config_json.layers_of(model)
        config = peft.config_of(params, *of, _named_from(directory, base))
        tensors = peft.tensors_of(params, *of)
        name, file = peft.CONFIG, peft.WEIGHTS
    else:
        config = config_json.written(model, tokenizer)
        tensors = _to_checkpoint(model, params)
        name, file = "config.json", "model.safetensors"

    def write(partial: Path) -> None:
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (partial / name).write_text(text, encoding="utf-8")
        safetensors.numpy.save_file(tensors, partial / file, metadata={"format": "pt"})
        # It is made unreadable to others.
        shutil.copymode(partial / name, partial / file)
        if tokenizer is not None:
            speaks = isinstance(model, Decoder)
            tokenization.save(tokenizer, partial, speaks and model.config.n_positions)
            if speaks:
                values = config_json.generation(tokenizer)
                write_json(partial / "generation_config.json", values)

    return write_folder(directory, write)


def _to_checkpoint(model, params) -> dict[str, np.ndarray]:
    """The tensors under the names of transformers."""
    family = FAMILIES[config_json.kind_of(model)]
    leaves = traverse_util.flatten_dict(params, sep="/")
    if {path: leaf.shape for path, leaf in leaves.items()} != config_json.shapes_of(
        model
    ):
        raise ValueError("params do not fit this model; build it with their config.")
    tied = getattr(model.config, "tie_word_embeddings", False)
    modules = family.modules + (() if tied else family.head)
    tensors = {}
    for path, name, transposed in weights(modules, config_json.layers_of(model)):
        array = np.asarray(leaves[path], np.float32)
        # safetensors writes memory as it lies: a transposed view would come out wrong.
        array = np.ascontiguousarray(array.T if transposed else array)
        tensors[family.full_name(name)] = array
    return tensors
