"""The files of an evaluation: what was asked, and what its rows answered.

instances.jsonl            what was asked, with the gold answers
KIND/NAME.jsonl            what a row answered; in unfinished/ while it does
traits/, swapped/          what was measured of rows beside their answers
rows.json, made_by.json    what the rows are; the commit by which each was answered
set_aside/SHA256/          all this of a row that was defined so, and now is not
"""

import dataclasses
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ppg_jax import run_dir
from ppg_jax.data.dialogue import Dialogue, Instance, dialogue_of, profile_text
from ppg_jax.files import (
    read_json,
    read_jsonl,
    require_form,
    write_json,
    write_jsonl,
)
from ppg_jax.inference import traits
from ppg_jax.inference.embedding import Encoder
from ppg_jax.systems.system import KINDS

ROWS, MADE_BY = "rows.json", "made_by.json"
SECONDS = "seconds_of_last_process"  # here: of all that ended by themselves
_READ, _ROW = "sha256 of the ", "row "  # of a fingerprint's inputs


_AGAIN = "delete it and evaluate the run again."
_NAMED = {"name": str}
_FORMS = {
    ROWS: dict[str, list[_NAMED]],
    MADE_BY: dict[str, str | None],
    run_dir.RESULT: {SECONDS: float | None},
}


def values(path: Path) -> dict:
    """What a file holds; {} where there is none."""
    found = read_json(path, _AGAIN) if path.exists() else {}
    require_form(path, found, _FORMS.get(path.name, {}), _AGAIN)
    return found


def records(path: Path) -> list[dict]:
    """Of a row, as far as it has answered."""
    return [record for _, record in read_jsonl(path)] if path.exists() else []


def begun(path: Path, kind: str, ids: Sequence[str]) -> list[dict]:
    """The records of a row that goes on; UserError where they are not those of the
    first of the instances, in this order."""
    found, own = records(path), {"persona": str}
    if kind == "responses":
        own = {"response": str, "partner_persona": str | None}
    lines = dict(enumerate(found, 1))
    require_form(path, lines, {n: _of(own, n, ids) for n in lines}, _AGAIN)
    return found


def _of(own: dict, line: int, ids: Sequence[str]) -> dict:
    expected = re.escape(ids[line - 1]) if line <= len(ids) else "(?!)"  # or nothing
    return {"id": re.compile(expected), **own}


def write(path: Path, content: Mapping | Iterable[dict]) -> None:
    """Values, as JSON, or records, as JSON lines."""
    (write_json if isinstance(content, Mapping) else write_jsonl)(path, content)


def holds(path: Path, ids: Sequence[str]) -> bool:
    """Whether there are records of these instances, in this order."""
    return path.exists() and [record.get("id") for record in records(path)] == ids


def write_references(folder: Path, asked, train: Sequence[Dialogue]) -> None:
    """What was asked, with the gold answers, and the personas of training."""
    references = []
    for instance in asked:
        record = dataclasses.asdict(instance)
        record["dialogue"] = dialogue_of(instance.id)
        record["gold_persona"] = profile_text(instance.partner_persona)
        references.append(record)
    write(folder / "instances.jsonl", references)
    known = {s for d in train for s in d.self_persona + d.partner_persona}
    write(folder / "training_sentences.json", {"sentences": sorted(known)})


def claimed(folder: Path) -> dict[str, str]:
    """What an evaluation was claimed for, as `run_dir.claim` is given it; {} if new."""
    made = (folder / run_dir.FINGERPRINT).exists()
    known = run_dir.settings_of(folder) if made else {}
    sums = {k.removeprefix(_READ): v for k, v in known.items() if k.startswith(_READ)}
    path, again = folder / run_dir.FINGERPRINT, f"delete {folder} to evaluate anew."
    require_form(path, sums, dict[str, str], again)
    return sums


def rows_of(inputs: Mapping[str, str]) -> dict[str, str]:
    """Of these, the rows: name -> SHA-256."""
    return {k.removeprefix(_ROW): v for k, v in inputs.items() if k.startswith(_ROW)}


def change(folder: Path, rows: Mapping[str, str]) -> None:
    """Makes room for rows that are defined otherwise than before, or are gone.

    rows: name -> SHA-256, as they are now. What another one answered is set aside, its
    claim forgotten; what one that is again as it was had answered comes back.
    """
    before = rows_of(claimed(folder))
    for name in [name for name, sha256 in before.items() if rows.get(name) != sha256]:
        aside = _aside(folder, before[name])
        _move(folder, aside, name)
        _forget(folder, name)
        if aside.is_dir():
            became = "is defined otherwise now" if name in rows else "is gone"
            told = f"the row {name} {became}; what it answered is in {aside}"
            print(f"evaluate: {told}", file=sys.stderr, flush=True)
    for name, sha256 in rows.items():
        aside = _aside(folder, sha256)
        kept = values(aside / MADE_BY)
        answers = [f"{kind}/{name}" for kind in KINDS if f"{kind}/{name}" in kept]
        if answers and not (folder / f"{answers[0]}.jsonl").exists():
            _move(aside, folder, name, back=True)


def _aside(folder: Path, sha256: str) -> Path:
    return folder / "set_aside" / sha256[:12]


def _move(folder: Path, to: Path, name: str, back: bool = False) -> None:
    """What a row of the config answered, and was measured of it; not a user's own.

    Wherever it is broken off, the next call does the rest, in either direction: the
    answers are the first to go and the last to come back.
    """
    made_by, listed = values(folder / MADE_BY), values(folder / ROWS)
    for kind in KINDS:
        ours = {row["name"] for row in listed.get(kind, ())}
        row, places = f"{kind}/{name}", [Path("unfinished", kind)]
        if row in made_by or name in ours:
            counts = [Path("traits")] if kind == "personas" else []
            places = [Path(kind), Path("swapped", kind), *counts, *places]
            noted = values(to / MADE_BY)
            commit = made_by.get(row, noted.get(row))
            write(to / MADE_BY, noted | {row: commit})
        for place in places[::-1] if back else places:
            file = folder / place / f"{name}.jsonl"
            if file.exists():
                (to / place).mkdir(parents=True, exist_ok=True)
                file.replace(to / place / file.name)
        if row in made_by:
            del made_by[row]
            write(folder / MADE_BY, made_by)


def _forget(folder: Path, name: str) -> None:
    """The report no longer looks for the row, nor is the folder claimed for it."""
    rows = {
        kind: [row for row in rows if row["name"] != name]
        for kind, rows in values(folder / ROWS).items()
    }
    if rows:
        write(folder / ROWS, rows)
    made = values(folder / run_dir.FINGERPRINT)
    made.pop(_READ + _ROW + name, None)
    write(folder / run_dir.FINGERPRINT, made)


def count_traits(folder: Path, asked: Sequence[Instance], encoder: Encoder) -> None:
    """`traits/NAME.jsonl` for each `personas/NAME.jsonl`, known for its by its time.
    What is no row of personas the report refuses by its line."""
    for source, path in uncounted(folder):
        personas = [record.get("persona") for record in records(source)]
        if len(personas) == len(asked) and all(isinstance(p, str) for p in personas):
            counts = traits.score(asked, personas, encoder)
            pairs = zip(asked, counts, strict=True)
            write(path, ({"id": i.id, **each} for i, each in pairs))
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
