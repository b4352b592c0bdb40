"""The files of an evaluation: what was asked, and what its rows answered.

instances.jsonl            what was asked, with the gold answers
KIND/NAME.jsonl            what a row answered; in unfinished/ while it does
traits/, swapped/          what was measured of rows beside their answers
set_aside/                 answers of rows that are other ones now
rows.json, made_by.json    what the rows are; the commit by which each was answered
"""

import dataclasses
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ppg_jax import run_dir
from ppg_jax.data.dialogue import Dialogue, Instance, dialogue_of, profile_text
from ppg_jax.files import read_json, read_jsonl, write_json, write_jsonl
from ppg_jax.inference import traits
from ppg_jax.inference.embedding import Encoder

ROWS, MADE_BY = "rows.json", "made_by.json"
_ROW = "sha256 of the row "  # of a fingerprint's inputs


def values(path: Path) -> dict:
    """What a file holds; {} where there is none."""
    return read_json(path) if path.exists() else {}


def records(path: Path) -> list[dict]:
    """Of a row, as far as it has answered."""
    return [record for _, record in read_jsonl(path)] if path.exists() else []


def write_values(path: Path, values: dict) -> None:
    write_json(path, values)


def write_records(path: Path, records: Iterable[dict]) -> None:
    write_jsonl(path, records)


def holds(path: Path, ids: Sequence[str]) -> bool:
    """Whether there are records of these instances, in this order."""
    return path.exists() and [record["id"] for record in records(path)] == ids


def write_references(folder: Path, asked, train: Sequence[Dialogue]) -> None:
    """What was asked, with the gold answers, and the personas of training."""
    references = []
    for instance in asked:
        record = dataclasses.asdict(instance)
        record["dialogue"] = dialogue_of(instance.id)
        record["gold_persona"] = profile_text(instance.partner_persona)
        references.append(record)
    write_jsonl(folder / "instances.jsonl", references)
    known = {s for d in train for s in d.self_persona + d.partner_persona}
    write_json(folder / "training_sentences.json", {"sentences": sorted(known)})


def rows_of(folder: Path) -> dict[str, str]:
    """The rows that an evaluation was claimed for: name -> SHA-256."""
    known = values(folder / run_dir.FINGERPRINT)
    return {k.removeprefix(_ROW): v for k, v in known.items() if k.startswith(_ROW)}


def set_aside(folder: Path, names: Collection[str]) -> None:
    """What these rows answered is kept where no row is, and the folder's claim knows
    them no more: they are other ones now, or gone."""
    aside = folder / "set_aside"
    for name in names:
        for path in sorted(folder.glob(f"**/{name}.jsonl")):
            if aside not in path.parents:
                kept = aside / path.relative_to(folder)
                kept.parent.mkdir(parents=True, exist_ok=True)
                path.replace(kept)
                print(
                    f"evaluate: {name} is not the row that it was; its answers: {kept}",
                    file=sys.stderr,
                )
    if names:
        gone = {_ROW + name for name in names}
        known = values(folder / run_dir.FINGERPRINT)
        kept = {k: v for k, v in known.items() if k not in gone}
        write_json(folder / run_dir.FINGERPRINT, kept)


def count_traits(folder: Path, asked: Sequence[Instance], encoder: Encoder) -> None:
    """`traits/NAME.jsonl` for each `personas/NAME.jsonl`, known for its by its time.
    What is no row of personas the report refuses by its line."""
    for source, path in uncounted(folder):
        personas = [record.get("persona") for record in records(source)]
        if len(personas) == len(asked) and all(isinstance(p, str) for p in personas):
            counts = traits.score(asked, personas, encoder)
            pairs = zip(asked, counts, strict=True)
            write_jsonl(path, ({"id": i.id, **each} for i, each in pairs))
            made = source.stat().st_mtime_ns
            os.utime(path, ns=(made, made))


def uncounted(folder: Path) -> list[tuple[Path, Path]]:
    """Rows of personas and where their counts go; those of other answers are gone."""
    found = []
    for source in sorted((folder / "personas").glob("*.jsonl")):
        path, made = folder / "traits" / source.name, source.stat().st_mtime_ns
        if not path.exists() or path.stat().st_mtime_ns != made:
            path.unlink(missing_ok=True)
            found.append((source, path))
    return found
