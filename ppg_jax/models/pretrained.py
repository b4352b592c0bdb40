"""Hugging Face model folders in and out: weights, sizes and tokenizer.

Four kinds come in: GPT-2 (DialoGPT too), Llama (SmolLM2 too), DistilBERT, and BERT
encoders of the MiniLM kind, which become DistilBERTs. Three go out, in the layout that
`transformers` opens; `weight_map` has the names. The first two may be language models
or classifiers (`classifier`). A Llama may also come from a GGUF file, and adapters from
a folder of PEFT's. Parameters are float32 here and on export, whatever the file had.
"""

import dataclasses
import functools
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import safetensors
import safetensors.numpy

from ppg_jax.data import tokenization
from ppg_jax.data.tokenization_rows import drop_rowless
from ppg_jax.errors import UserError
from ppg_jax.files import read_json, write_json
from ppg_jax.models import adapters, config_json, gguf, hub, peft
from ppg_jax.models.classifier import Classifier, classifier_of
from ppg_jax.models.decoder import Decoder
from ppg_jax.models.distilbert import DistilBertConfig
from ppg_jax.models.soundness import require_sound
from ppg_jax.models.tensor_files import (
    FOLDER,
    Tensor,
    finite,
    read_folder,
    write_folder,
)
from ppg_jax.models.tensor_tree import (
    check_layers,
    fill,
    fold,
    label_count,
    to_checkpoint,
)
from ppg_jax.models.weight_map import FAMILIES, classifying


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

    Names: those of `hub`, as microsoft/DialoGPT-medium, gpt2 and
    distilbert-base-uncased, each at the revision of its manifest under third_party/;
    minilm and smollm2 of packages. dtype: compute type of the module. An
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
    require_sound(place, lambda: adapters.sha256(loaded[1]))
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
    _require_room(place, tokenizer, config.vocab_size, "config.json says vocab_size")
    family, encodes = FAMILIES[kind], isinstance(config, DistilBertConfig)
    if classifies := not encodes and "score.weight" in tensors:
        family = classifying(family)
    check_layers(tensors, getattr(config, family.layers), file)
    has_head = fold(family, kind, config, tensors, file)
    if encodes:
        if not (has_head or num_labels):
            raise UserError(
                f"{file} has no classifier, which a critic is; give the model/ of a "
                "finished critic."
            )
        labels = label_count(tensors) if has_head else num_labels
        config = dataclasses.replace(config, num_labels=labels)
    model = config_json.MODELS[kind][0](config, dtype=dtype)
    if classifies:
        model = Classifier(config, dtype, label_count(tensors))
    params = fill(model, family, has_head, tensors, file)
    if encodes and not has_head:
        first = jnp.zeros((1, config.dim))
        params |= model.init(jax.random.key(seed), first, method="classify")["params"]
    return model, params, tokenizer


def _require_room(place: Path, tokenizer, rows: int, told: str) -> None:
    """UserError for a tokenizer with tokens that the model has no row for; special ones
    that no text needs are left out of it, and told."""
    dropped, rowless = drop_rowless(tokenizer, rows)
    if dropped:
        _tell(f"{place}: left out {_listed(dropped)} of its tokenizer: without a row")
    if not rowless:
        return
    size = tokenization.size_of(tokenizer)
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    raise UserError(
        f"{place}: the tokenizer has {size} tokens, {told} {rows}; "
        + (
            f"{_listed(rowless)} came later: resize_token_embeddings gives them rows."
            if added.issuperset(rowless)
            else "they belong to different models."
        )
    )


def _listed(tokens: list[str]) -> str:
    return ", ".join(map(repr, tokens[:3])) + (", .." if len(tokens) > 3 else "")


@functools.cache
def _tell(line: str) -> None:
    """On stderr, once: a folder is opened several times."""
    print(line, file=sys.stderr, flush=True)


def base_of(folder) -> str:
    """What `load` finds the base of a folder's adapters by; "" of a whole model."""
    folder = Path(folder).expanduser()
    if not peft.is_adapter(folder):
        return ""
    base = peft.base_of(folder)
    # A stage of the same run directory is named from the folder on.
    return str((folder / base).resolve()) if os.path.exists(folder / base) else base


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
        bases[base] = _load_base(folder, base, dtype, prepare)
    model, params, tokenizer, head = bases[base]
    model = model.clone(dtype=dtype)
    of = config_json.family_of(model), config_json.layers_of(model)
    params = peft.read(folder, *of, params, head)
    if adapters.HEAD in params:
        kernel = params[adapters.HEAD]["kernel"]
        model, params = classifier_of(model, params, kernel)
    elif head is not None and not getattr(model.config, "tie_word_embeddings", True):
        raise UserError(
            f"{folder / peft.CONFIG}: its base {base} is a classifier, and has no "
            "output head to speak with; write the language model that it was made "
            "from as base_model_name_or_path."
        )
    if has_tokenizer(folder):
        tokenizer = tokenization.load_tokenizer(folder)
        _require_room(folder, tokenizer, model.config.vocab_size, "its base has")
    return model, params, tokenizer


def _load_base(folder: Path, base: str, dtype, prepare):
    """(decoder, params, tokenizer, head) of a base; head: the kernel [D, C] of one that
    is a classifier, None of a language model."""
    place = _whole(folder, base)
    model, params, tokenizer = _load_whole(place, dtype, 2, 0)
    if not isinstance(model, Decoder | Classifier):
        raise _no_base(folder, base)
    require_sound(place, lambda: adapters.sha256(params))
    head = params.pop(adapters.HEAD, None)
    model = config_json.module_of(model.config, dtype)
    kernel = None if head is None else jnp.asarray(head["kernel"])
    return model, _on_device(prepare(params)), tokenizer, kernel


def _whole(folder: Path, base: str) -> Path:
    """Where the base of a folder's adapters lies; UserError if it is adapters, too."""
    try:
        place = hub.locate(base)
    except UserError as error:
        told = f"{folder / peft.CONFIG}, base_model_name_or_path: {error}"
        raise type(error)(told) from None
    if peft.is_adapter(place):
        raise _no_base(folder, base)
    return place


def _no_base(folder: Path, base: str) -> UserError:
    return UserError(
        f"{folder / peft.CONFIG}: its base {base} is no whole GPT-2 or Llama; write "
        "the name or the folder of one as base_model_name_or_path."
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder of adapters has its own, and not that of its base."""
    return any((folder / n).exists() for n in ("tokenizer.json", "vocab.json"))


def _read(place: Path):
    """(file that is named in errors, kind, config, tensors, tokenizer) of a model."""
    if place.suffix == ".gguf":
        opened = gguf.File(place)
        values, arrays = gguf.read(opened)
        kind, config = config_json.read(values, place)
        prefix = FAMILIES[kind].prefix
        tensors = {
            name.removeprefix(prefix): Tensor(finite(array, name, place), name, place)
            for name, array in arrays.items()
        }
        return place, kind, config, tensors, gguf.tokenizer(opened)
    path = place / "config.json"
    if not path.is_file():
        _require_no_model_below(place)
    kind, config = config_json.read(read_json(path, FOLDER), path)
    tokenizer = tokenization.load_tokenizer(place)
    family = FAMILIES[kind]
    shapes = config_json.shapes_of(config_json.MODELS[kind][0](config)).values()
    # A head that is tied may be there a second time, and other small ones beside it.
    most = 2 * sum(map(math.prod, shapes)) + (1 << 20)
    names = family.prefix, family.skipped
    file, tensors = read_folder(place, *names, most, family.tied)
    return file, kind, config, tensors, tokenizer


def _require_no_model_below(place: Path) -> None:
    """UserError for a folder of folders, as a trainer's checkpoints and PEFT's adapters
    of a name are."""
    found = {
        p.parent for n in ("config.json", peft.CONFIG) for p in place.glob(f"*/{n}")
    }
    if found:
        names = ", ".join(sorted(folder.name for folder in found)[:3])
        raise UserError(
            f"{place} holds no model itself, but folders that do, as {names}; give the "
            "path of one of them."
        )


def load_tokenizer(path_or_hub_id):
    """The tokenizer alone of what `load` loads; UserError if it has none."""
    place = hub.locate(path_or_hub_id)
    if place.suffix == ".gguf":
        return gguf.tokenizer(gguf.File(place))
    base = _whole(place, base_of(place)) if peft.is_adapter(place) else place
    if base != place and not has_tokenizer(place):
        return load_tokenizer(base)
    tokenizer = tokenization.load_tokenizer(place)
    if (file := base / "config.json").is_file():
        rows = read_json(file).get("vocab_size")
        if type(rows) is int:
            drop_rowless(tokenizer, rows)
    return tokenizer


def export(
    model,
    params,
    tokenizer,
    directory,
    base: str = "",
    beside: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Writes a folder that `load` and transformers open; returns its path.

    It appears when it is complete, in place of an older model of that name if there is
    one. params: the float32 tree of `model`; the tensors go out bit for bit. Of a tree
    with adapters these alone, as PEFT writes them; base: what `load` finds the base by,
    which may have the tokenizer (None), too. beside: writes into the folder what stands
    there beside the model.

    Raises:
      UserError: `directory` holds something else, or cannot be written.
      ValueError: `params` are not those of `model`.
    """
    directory = Path(directory)
    if base:
        of = config_json.family_of(model), config_json.layers_of(model)
        config = peft.config_of(params, *of, _named_from(directory, base))
        tensors = peft.tensors_of(params, *of)
        name, file = peft.CONFIG, peft.WEIGHTS
    else:
        config = config_json.written(model, tokenizer)
        tensors = to_checkpoint(model, params)
        name, file = "config.json", "model.safetensors"

    def write(partial: Path) -> None:
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (partial / name).write_text(text, encoding="utf-8")
        safetensors.numpy.save_file(tensors, partial / file, metadata={"format": "pt"})
        # It is made unreadable to others.
        shutil.copymode(partial / name, partial / file)
        beside(partial)
        if tokenizer is not None:
            speaks = isinstance(model, Decoder)
            tokenization.save(tokenizer, partial, speaks and model.config.n_positions)
            if speaks:
                values = config_json.generation(tokenizer)
                write_json(partial / "generation_config.json", values)

    return write_folder(directory, write)
