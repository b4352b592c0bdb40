"""Answers in a file, as an earlier process left them: what they are of, and whole."""

import hashlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import jax

from ppg_jax.config import flatten
from ppg_jax.errors import UserError
from ppg_jax.files import read_json, require_file, understood, write_json
from ppg_jax.inference.pipeline import Pipeline
from ppg_jax.training.train_state import params_sha256

SETTINGS = ".settings.json"  # beside the output
DONE = "sha256 of the output"


class Counts(NamedTuple):
    """Output lines, and those among them that are error records."""

    lines: int = 0
    errors: int = 0


def beside(output: Path, ending: str) -> Path:
    return output.with_name(output.name + ending)


def require_files(output: Path) -> None:
    """UserError where a pipe or a folder is in the place of what lies beside it."""
    for path in (beside(output, end) for end in (".part", ".sums", SETTINGS)):
        require_file(path, f"remove it, or give another --output than {output}.")


def refuse_to_replace(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise UserError(f"{path} is there already; give another --output.")


def claim(config, pipeline: Pipeline, output: Path) -> int:
    """Makes `output` belong to these settings, or refuses by name; counts the input."""
    ours, total = _settings(config, pipeline)
    path = beside(output, SETTINGS)
    if not path.exists():
        refuse_to_replace(output, beside(output, ".part"))
        write_json(path, ours)
    theirs = _read(path)
    theirs.pop(DONE, None)
    changed = [k for k in ours | theirs if ours.get(k) != theirs.get(k)]
    if changed:
        told = "; ".join(
            f"{k} was {theirs.get(k)!r:.80}, is {ours.get(k)!r:.80}"
            for k in changed[:3]
        )
        raise UserError(
            f"{output} was begun with another setting ({told}). Give another "
            "--output, or delete it with its .settings.json and .part to start again."
        )
    return total


def _settings(config, pipeline: Pipeline) -> tuple[dict, int]:
    """Everything that the answers depend on, and how many lines ask for one."""
    digest, total = hashlib.sha256(), 0
    with open(config.input, "rb") as lines:
        for total, line in enumerate(lines, 1):  # noqa: B007
            digest.update(line)
    settings = flatten(pipeline.config) | {"chunk": config.chunk_lines}
    settings |= flatten(pipeline.prompts.config, "prompts.")
    settings["sha256 of the input"] = digest.hexdigest()
    settings["precision of products"] = jax.config.jax_default_matmul_precision
    for name in ("persona", "response"):
        _, params = getattr(pipeline, name)
        settings[f"params_sha256 of the {name} generator"] = params_sha256(params)
    return settings, total


def _read(settings: Path) -> dict:
    name = settings.name.removesuffix(SETTINGS)
    hint = f"delete it with {name} and {name}.part to start again."
    return read_json(settings, hint)


def kept(file: BinaryIO, sums: BinaryIO, chunk: int) -> tuple[Counts, int]:
    """What can be kept of earlier answers, whole chunks of which each has its sum; and
    its bytes.  The lines of the sums that follow are taken away."""
    sums.seek(0)
    recorded = sums.read().splitlines()
    file.seek(0)
    done, size, chunks = Counts(), 0, 0
    for sum_ in recorded:
        lines = list(itertools.islice(file, chunk))
        content = b"".join(lines)
        if hashlib.sha256(content).hexdigest().encode() != sum_:
            break
        try:
            errors = _errors(lines)
        except (ValueError, RecursionError):  # another's, with sums of its own
            break
        done = Counts(done.lines + len(lines), done.errors + errors)
        size, chunks = size + len(content), chunks + 1
    sums.truncate(chunks * (2 * hashlib.sha256().digest_size + 1))
    return done, size


def whole(output: Path, total: int) -> Counts:
    """Counts of a finished output; UserError if it is not as it was finished."""
    with output.open("rb") as file:
        lines = sum(1 for _ in file)
    recorded = _read(beside(output, SETTINGS)).get(DONE)
    if lines != total or recorded not in (None, _sha256_of(output)):
        raise UserError(
            f"{output} is not as it was finished ({lines} lines for the {total} of the "
            f"input); delete it and {output.name}{SETTINGS} to have it made again."
        )
    with understood(output, "delete it to have it made again."), output.open("rb") as f:
        return Counts(lines, _errors(f))


def _errors(lines: Iterable[bytes]) -> int:
    """How many are error records; ValueError where one is no record."""
    found = 0
    for record in map(json.loads, lines):
        if not isinstance(record, dict):
            raise ValueError("a line is no object")
        found += "error" in record
    return found


def finish(output: Path) -> None:
    """Keeps the SHA-256 of what is whole now, and will get its name."""
    path = beside(output, SETTINGS)
    write_json(path, _read(path) | {DONE: _sha256_of(beside(output, ".part"))})


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
