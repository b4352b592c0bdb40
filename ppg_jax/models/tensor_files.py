"""safetensors files of a model folder, whole or in shards, as float32 arrays by name.

Only safetensors are opened: a pickle can run code.
"""

import math
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors

from ppg_jax.errors import UserError
from ppg_jax.files import all_finite, read_json, require_file
from ppg_jax.models import hub

ADAPTERS = "adapter_config.json"  # of a folder of PEFT's
FOLDER = "a model folder holds config.json, model.safetensors and tokenizer files."
_POINTER = b"version https://git-lfs.github.com"  # begins what a clone has for a file


class Tensor(NamedTuple):
    array: np.ndarray  # float32
    name: str  # as it stands in the file
    file: Path


def read_folder(
    folder: Path, prefix: str, skipped: str, most: int = 0, tied: Sequence[str] = ()
) -> tuple[Path, dict[str, Tensor]]:
    """The file that lists the tensors, and those that matter, without their prefix.

    most: numbers that a file of this model can hold, 0 for any; more are not read.
    tied: tensors that an index may list and a file lack, for others stand for them.
    """
    single, index = (folder / f"model.safetensors{end}" for end in ("", ".index.json"))
    if single.is_file():
        file, shards = single, {single: None}
    elif index.is_file():
        file, shards = index, _read_index(index)
        for shard, listed in shards.items():
            held = set(names_of(shard))
            listed -= {n for n in listed - held if n.removeprefix(prefix) in tied}
    else:
        raise hub.no_weights(folder)
    tensors: dict[str, Tensor] = {}
    for shard, listed in shards.items():
        for tensor in read_file(shard, prefix, skipped, listed, most):
            name = tensor.name.removeprefix(prefix)
            if name in tensors:
                both = f"{tensor.name!r} and {tensors[name].name!r}"
                raise UserError(f"{shard}: tensors {both} are one and the same.")
            tensors[name] = tensor
    return file, tensors


def _read_index(index: Path) -> dict[Path, set[str]]:
    """The shards, each with the names of the tensors that it should hold."""
    weight_map = read_json(index, FOLDER).get("weight_map")
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


def names_of(file: Path) -> list[str]:
    """The names of a file's tensors."""
    require_file(file, "get it again.")
    try:
        with safetensors.safe_open(file, framework="numpy") as shard:
            return sorted(shard.keys())
    except safetensors.SafetensorError as error:
        raise _no_safetensors(file, error) from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}.") from None


def _no_safetensors(file: Path, error: Exception) -> UserError:
    with file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            return UserError(
                f"{file} is a pointer of Git LFS, not the weights; type git lfs pull "
                "in its repository."
            )
    return UserError(f"{file}: no complete safetensors file ({error}); get it again.")


def read_file(
    file: Path,
    prefix: str = "",
    skipped: str = "",
    listed: set[str] | None = None,
    most: int = 0,
    described: str = "config.json",
) -> Iterator[Tensor]:
    """The tensors of one file; `listed` are the names that an index gives it, `most` is
    as in `read_folder`; described: the file that says how large they are."""
    require_file(file, "get it again.")
    try:
        with safetensors.safe_open(file, framework="numpy") as shard:
            names = set(shard.keys())
            for name in sorted(names ^ (names if listed is None else listed)):
                if re.fullmatch(skipped, name.removeprefix(prefix)):
                    continue
                fault = "not in the index" if name in names else "missing"
                raise UserError(f"{file}: tensor {name!r} is {fault}.")
            read = [
                n for n in names if not re.fullmatch(skipped, n.removeprefix(prefix))
            ]
            # Before memory is asked for: a file without content can be of any size.
            held = sum(math.prod(shard.get_slice(n).get_shape()) for n in read)
            if most and held > most:
                raise UserError(
                    f"{file}: holds {held:,} numbers, far more than {described} "
                    "describes; they belong to different models."
                )
            for name in sorted(read):
                yield Tensor(_read_float32(shard, name, file), name, file)
    except safetensors.SafetensorError as error:
        raise _no_safetensors(file, error) from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}.") from None


def _read_float32(shard, name: str, file: Path) -> np.ndarray:
    kind = shard.get_slice(name).get_dtype()
    # Each half-precision number is a float32 number too; a float64 need not be.
    if kind not in ("F32", "F16", "BF16"):
        raise UserError(
            f"{file}: tensor {name!r} has type {kind}, expected F32, F16 or BF16."
        )
    return finite(shard.get_tensor(name).astype(np.float32), name, file)


def finite(array: np.ndarray, name: str, file: Path) -> np.ndarray:
    """The array; UserError if it holds a number that is none."""
    if not all_finite(array):
        raise UserError(
            f"{file}: tensor {name!r} holds NaN or infinity: the model is broken, get "
            "it again or train it again with a lower learning rate."
        )
    return array


def write_folder(directory: Path, write: Callable[[Path], None]) -> Path:
    """A model folder, whole or not at all."""
    is_model = any((directory / n).is_file() for n in ("config.json", ADAPTERS))
    if directory.exists() and not is_model and _occupied(directory):
        raise UserError(
            f"{directory} is there already and is no model folder; name a new one."
        )
    partial = directory.with_name(f".{directory.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
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
