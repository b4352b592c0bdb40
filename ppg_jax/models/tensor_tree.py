"""The tensors of a checkpoint as the parameters of a model, and back.

`weight_map` has the names; what a file lacks, or has too much of, is said by name.
"""

import re
from pathlib import Path

import numpy as np
from flax import traverse_util

from ppg_jax.errors import UserError
from ppg_jax.models import config_json
from ppg_jax.models.tensor_files import Tensor
from ppg_jax.models.weight_map import Family, weights


def check_layers(tensors: dict[str, Tensor], layers: int, file: Path) -> None:
    """Before the model is built in the size that config.json states."""
    found = {m[0] for name in tensors if (m := re.search(r"\.\d+\.", name))}
    if len(found) != layers:
        raise UserError(
            f"{file}: holds {len(found)} layers, config.json says {layers}; the file "
            "is incomplete, or they belong to different models."
        )


def label_count(tensors: dict[str, Tensor]) -> int:
    """How many labels a head tells apart."""
    # Whatever is missing or odd about them is said by `fill`, as of any other tensor.
    for name in ("score.weight", "classifier.weight", "classifier.bias"):
        if name in tensors and tensors[name].array.size:
            return tensors[name].array.shape[0]
    return 1


def fold(family: Family, kind: str, config, tensors, file: Path) -> bool:
    """Takes out what the architecture has no place of its own for.

    Whether what is left has a head.
    """
    if kind == "bert":
        _rename_norms(tensors)
        _fold_token_types(tensors, file)
    if family.tied and getattr(config, "tie_word_embeddings", True):
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


def _rename_norms(tensors: dict[str, Tensor]) -> None:
    """What the first BERTs called otherwise, as the files of many still do."""
    for name in [n for n in tensors if n.endswith((".gamma", ".beta"))]:
        place, _, leaf = name.rpartition(".")
        now = f"{place}.{'weight' if leaf == 'gamma' else 'bias'}"
        if place.endswith("LayerNorm") and now not in tensors:
            tensors[now] = tensors.pop(name)


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


def fill(model, family: Family, has_head: bool, tensors, file: Path) -> dict:
    """Checkpoint -> params tree; empties `tensors`, or says what does not fit."""
    params, shapes = {}, config_json.shapes_of(model)
    modules = family.modules + (family.head if has_head else ())
    for path, name, transposed in weights(modules, config_json.layers_of(model)):
        if name not in tensors:
            if name == "lm_head.weight" and family.tied:
                raise _missing_head(file)
            raise _missing(file, family.full_name(name), name, tensors)
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


def _missing(file: Path, name: str, bare: str = "", tensors=None) -> UserError:
    """bare: the name without the family's prefix."""
    # Those of DataParallel, of torch.compile, and of other classes.
    for tensor in (tensors or {}).values():
        if tensor.name.endswith((f".{name}", f".{bare}")):
            return UserError(
                f"{file}: tensor {name!r} is called {tensor.name!r} there; write the "
                "file anew with the save_pretrained of the language model or encoder."
            )
    return UserError(f"{file}: tensor {name!r} is missing; the file is incomplete.")


def _missing_head(file: Path) -> UserError:
    return UserError(
        f"{file}: tensor 'lm_head.weight' is missing: this is the body alone of a "
        'language model, or config.json lacks "tie_word_embeddings": true; save it as '
        "a language model."
    )


def _misshapen(tensor: Tensor, expected: list) -> UserError:
    stated = "its sizes ask" if tensor.file.suffix == ".gguf" else "config.json asks"
    return UserError(
        f"{tensor.file}: tensor {tensor.name!r} has shape {list(tensor.array.shape)}, "
        f"{stated} for {expected}."
    )


def to_checkpoint(model, params) -> dict[str, np.ndarray]:
    """The tensors under the names of transformers; ValueError for another model's."""
    family = config_json.family_of(model)
    leaves = traverse_util.flatten_dict(params, sep="/")
    if {path: leaf.shape for path, leaf in leaves.items()} != config_json.shapes_of(
        model
    ):
        raise ValueError("params do not fit this model; build it with their config.")
    tied = family.tied and getattr(model.config, "tie_word_embeddings", True)
    modules = family.modules + (() if tied else family.head)
    tensors = {}
    for path, name, transposed in weights(modules, config_json.layers_of(model)):
        array = np.asarray(leaves[path], np.float32)
        # safetensors writes memory as it lies: a transposed view would come out wrong.
        array = np.ascontiguousarray(array.T if transposed else array)
        tensors[family.full_name(name)] = array
    return tensors
