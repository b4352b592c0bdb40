"""Files that are there whole or not at all; JSON, JSON lines, and who writes them."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ppg_jax.errors import UserError


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Atomic: the file is there whole, or not at all.  Parents are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines([text] if isinstance(text, str) else text)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """As `write_text`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_jsonl(path: Path, records: Iterable[dict]) -> None:
    """One JSON object a line, as `write_text`."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_text(path, lines)


def read_json(path: Path, hint: str = "get it again.") -> dict:
    """The JSON object in a file.

    Raises UserError with `hint`, what to do about it, if there is none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {hint}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); {hint}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object; {hint}")
    return values


def read_jsonl(path: Path) -> Iterator[tuple[int, dict]]:
    """(line number from 1, object) of each line that is not empty.

    Raises UserError that names the line with something else.
    """
    # Not splitlines(): a text may hold a character that it takes for a line's end.
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}.") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}:{number}: not JSON ({error.msg}), expected one object a line."
            ) from None
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number}: no object, expected one object a line.")
        yield number, record


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl; one that a kill cut short is left out."""
    records = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return records


def hold(file: IO | int, told: str) -> None:
    """Locks an open file, or its number, until it is closed, in whatever way.

    Raises UserError(told) if another process holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(told) from None
