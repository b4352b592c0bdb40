"""Files that are there whole or not at all; JSON, JSON lines, and who writes them."""

import fcntl
import json
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from ppg_jax.errors import UserError

SHA256 = re.compile("[0-9a-f]{64}")  # a form, as `require_form` takes it
_MOST = 1e300  # of a number: a sum of some is one, too
_EXACT = 2**53  # as far as floats are whole numbers


@contextmanager
def naming(path: Path):
    """Around what writes a file: an OSError of that names none, or a temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename not in (None, str(_temporary(path))):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Atomic: the file is there whole, or not at all.  Parents are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    with naming(path):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines([text] if isinstance(text, str) else text)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_json(path: Path, value: Any) -> None:
    """As `write_text`.  Raises UserError for a number that is not finite."""
    write_text(path, dumped(value, path, indent=2) + "\n")


def write_jsonl(path: Path, records: Iterable[dict]) -> None:
    """One JSON object a line, as `write_json`."""
    write_text(path, (dumped(r, path, ensure_ascii=False) + "\n" for r in records))


def append_jsonl(path: Path, record: dict) -> None:
    """One more line of `write_jsonl`."""
    before = [known for _, known in read_jsonl(path)] if path.exists() else []
    write_jsonl(path, [*before, record])


def dumped(value: Any, path: Path | str, **options) -> str:
    """`value` as JSON for the file `path`, which has no word for NaN and infinity."""
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        told = ", ".join(sorted(name for name, _ in _not_finite(value))) or "a number"
        raise UserError(
            f"{path} is not written: {told} is not finite; the model that gave it is "
            "broken; delete the folder of its stage and train that again with a lower "
            "learning rate."
        ) from None


def all_finite(array) -> bool:
    """Whether no number of a numpy array is NaN or infinite."""
    # A sum is finite only if all its terms are, and needs no second array.
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def _not_finite(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers that are none, each with its name."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _not_finite(part, str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _not_finite(part, name)
    elif isinstance(value, float) and not math.isfinite(value):
        yield name, value


def read_json(path: Path, hint: str = "get it again.", field: str = "") -> dict:
    """The JSON object in a file.

    field: one that it has. Raises UserError with `hint`, what to do about it, if there
    is no such object.
    """
    try:
        require_file(path, hint)
        values = _loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} is missing; {hint}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); {hint}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object; {hint}")
    for name, value in _not_finite(values):  # JSON has no word for it
        told = f"{name!r} is {value}, expected a number that is finite"
        raise UserError(f"{path}: {told}; {hint}")
    if field and field not in values:
        raise UserError(f"{path}: it has no {field!r}; {hint}")
    return values


def require_file(path: Path, hint: str = "give a file.") -> None:
    """Raises UserError for a folder, for a pipe, which would be waited for, and for a
    link that leads nowhere; not where there is nothing."""
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link that leads nowhere; {hint}")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file; {hint}")


def require_form(path: Path, values: Any, form: Any, hint: str) -> None:
    """Raises UserError that names what in the content of `path` is not of a form.

    form: int, float (of a finite number), str, bool, None, a range of int, a pattern of
    a text, a union of such, dict[str, form], list[form], or {field: form} of fields
    that have to be there unless None is of their form; others may be there, too.
    """
    if told := _misfit(values, form):
        raise UserError(f"{path} is not as it was written ({told}); {hint}")


def _misfit(value: Any, form: Any, name: str = "") -> str:
    """What is not of its form, "" where all is; name: what holds it."""
    origin, inner, parts = typing.get_origin(form), typing.get_args(form), None
    if isinstance(form, types.UnionType):
        found = [_misfit(value, each, name) for each in inner]
        return "" if "" in found else found[0]
    if isinstance(value, dict) and isinstance(form, Mapping):
        parts = [(value.get(key), each, str(key)) for key, each in form.items()]
    elif isinstance(value, dict) and origin is dict:
        parts = [(part, inner[1], str(key)) for key, part in value.items()]
    elif isinstance(value, list) and origin is list:
        parts = [(part, inner[0], f"{n}") for n, part in enumerate(value, 1)]
    if parts is not None:
        below = (_misfit(v, f, f"{name}.{k}" if name else k) for v, f, k in parts)
        return next(filter(None, below), "")
    if form is float:
        fits = type(value) in (int, float) and abs(value) < _MOST
    elif isinstance(form, range):
        fits = type(value) is int and value in form
    elif isinstance(form, re.Pattern):
        fits = isinstance(value, str) and bool(form.fullmatch(value))
    else:
        fits = type(value) is form
    return "" if fits else f"{name or 'it'} is {value!r:.60}"


@contextmanager
def understood(path: Path, hint: str):
    """Around what interprets a file that we wrote: what is not in it, or of another
    type, is told as UserError with `hint`, as `read_json` tells what is no JSON."""
    try:
        yield
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is not as it was written ({told}); {hint}") from None


def read_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    """(line number from 1, object) of each line that is not empty.

    Raises UserError that names the line with something else.
    """
    # Not splitlines(): a text may hold a character that it takes for a line's end.
    require_file(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}.") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            raise UserError(
                f"{path}:{number}: not JSON ({reason}), expected one object a line."
            ) from None
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number}: no object, expected one object a line.")
        yield number, record


def _loads(text: str) -> Any:
    """`json.loads`; ValueError for half a character, which cannot be written again."""
    value = json.loads(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def once_each(pairs: list[tuple]) -> dict:
    """For `json.loads`: the object; ValueError for a field that stands there twice."""
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(n for n, (name, _) in enumerate(pairs) if name in dict(pairs[:n]))
        raise ValueError(f"field {pairs[twice][0]!r} stands there twice.")
    return record


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl; one that a kill or damage made useless is left
    out, and so are numbers that are not finite."""
    records = []
    require_file(path, "remove it.")
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(record, dict) or type(record.get("step")) is not int:
                continue
            if all(type(value) in (int, float) for value in record.values()):
                sound = {k: v for k, v in record.items() if abs(v) < _MOST}
                sound |= {k: float(v) for k, v in sound.items() if abs(v) > _EXACT}
                records += [sound] if 0 <= sound.get("step", -1) <= _EXACT else []
    return records


@contextmanager
def one_at_a_time(path: Path):
    """Waits until no other process is here with the same `path`, a file of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold(file: IO | int, told: str) -> None:
    """Locks an open file, or its number, until it is closed, in whatever way.

    Raises UserError(told) if another process holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(told) from None


_FOLDERS: dict[Path, int] = {}  # locked until the process ends, in whatever way


def hold_folder(folder: Path) -> None:
    """Keeps other processes out of `folder`: they would overwrite each other's work."""
    path = (folder / ".lock").resolve()
    if path in _FOLDERS:
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        hold(handle, f"{folder} is in use by another process; wait for it, or stop it.")
    except UserError:
        os.close(handle)
        raise
    _FOLDERS[path] = handle
