"""What an evaluation left in a run directory: instances, and records of each row."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ppg_jax import run_dir
from ppg_jax.errors import UserError
from ppg_jax.files import read_json, read_jsonl, require_form, understood
from ppg_jax.metrics import clusters

BEST_CONTROL = "best control"
MOST = 1e300  # of a number
MOST_CUT = 1_000_000  # tokens of a text that were left out
MOST_NATS = 700  # that a token or a word may cost: of more, a perplexity is no number
TEXTS = {"responses": "response", "personas": "persona"}  # kind of row: its field


_COUNTED = ("said", "unsaid", "right", "right_said", "right_unsaid", "exact")
# Of what evaluation writes: an instance, a row, and what is measured beside one.
_TEXTS_OF = ("self_persona", "partner_persona", "context")
_INSTANCE = dict.fromkeys(("id", "dialogue", "response"), str)
_INSTANCE |= dict.fromkeys(_TEXTS_OF, list[str]) | {"gold_persona": str | None}
_ROW = {"name": str, "label": str, "control": bool, "against": list[str]}
_ROW |= {"models": dict[str, str | None] | None, "contrast": float | None}
_ROW |= {"grounded": bool | None}
_COUNT = range(1_000_000)
_COUNTED += ("inferred", "repeated", "copied", "of_self")
_TRAITS = dict.fromkeys(_COUNTED, _COUNT)
_SWAPPED = dict.fromkeys(("nll", "nll_other"), float)
_SWAPPED |= {"tokens": _COUNT[1:], "tokens_other": int | None}
_AGAIN = "evaluate the run again."


class Row(NamedTuple):
    """What a table says of a row beside its numbers."""

    label: str
    control: bool = False
    against: tuple[str, ...] = ()  # rows that it is compared with
    own: bool = False  # of the user: a file that no config knows
    models: tuple[str, ...] = ()  # folders in the run directory, "STAGE/FOLDER"
    chosen: bool = False  # its personas: decoded by contrast, or grounded


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What `stages.evaluate` left: records in the order of the instances [N]."""

    instances: list[dict]
    rows: Mapping[str, dict[str, Row]]  # kind -> name -> row, in the order of the table
    records: Mapping[str, dict[str, list[dict]]]  # kind -> name -> [N]
    training_sentences: list[str]
    made_of: dict  # settings and inputs of the evaluation
    stages: list[dict]  # name and task of those that have finished
    # Beside the answers, and not of every run: counts of traits of rows of personas
    # [N], and for some instances what is likely given what is a stranger's.
    traits: Mapping[str, list[dict]] = dataclasses.field(default_factory=dict)
    swapped: Mapping[str, dict[str, list[dict]]] = dataclasses.field(
        default_factory=dict
    )

    @property
    def dialogues(self) -> list[str]:
        """The dialogue of each instance [N]."""
        return [instance["dialogue"] for instance in self.instances]

    @property
    def gold_personas(self) -> list[str]:
        """The gold partner persona of each instance as one text [N]."""
        return [_gold(instance, "personas") for instance in self.instances]

    def unit(self, persona: str) -> clusters.Unit:
        """Base personas of a side, "self_persona" or "partner_persona"."""
        return clusters.unit(self.dialogues, [i[persona] for i in self.instances])


def read(workdir: Path) -> Predictions:
    """Raises UserError if the folder holds no evaluation, or one that does not fit."""
    workdir = Path(workdir)
    folder = workdir / "evaluate"
    if not (folder / "rows.json").exists():
        raise UserError(
            f"{folder} holds no evaluation; run `python -m launch.evaluate "
            f"--config=CONFIG --workdir={workdir}` first."
        )
    rows, records = {}, {}
    instances = _lines(folder / "instances.jsonl", _INSTANCE)
    ids = [instance["id"] for instance in instances]
    gold = {kind: [_gold(i, kind) for i in instances] for kind in TEXTS}
    known = _values(folder / "rows.json", dict[str, list[_ROW]])
    form = {"sentences": list[str]}
    sentences = _values(folder / "training_sentences.json", form)["sentences"]
    for kind in TEXTS:
        with understood(folder / "rows.json", _AGAIN):
            rows[kind] = _rows(folder / kind, known.get(kind, []))
        records[kind] = {
            name: _records(folder / kind / f"{name}.jsonl", TEXTS[kind], ids)
            for name in rows[kind]
        }
        for name, made in records[kind].items():
            _check_words(folder / kind / f"{name}.jsonl", made, gold[kind])
    experiment = run_dir.read_experiment(workdir)
    asked = experiment.get("config", {}).get("evaluate", {})
    # Once asked for and not any more: the files stay, for whoever asks again.
    swapped = rows if asked.get("swapped_dialogues", 1) else dict.fromkeys(TEXTS, ())
    return Predictions(
        instances,
        rows,
        records,
        sentences,
        run_dir.settings_of(folder),
        [s for s in experiment["stages"] if run_dir.finished(workdir, s["name"])],
        _beside(folder / "traits", rows["personas"], _TRAITS, ids.__eq__),
        {
            k: _beside(folder / "swapped" / k, swapped[k], _SWAPPED, {*ids}.issuperset)
            for k in TEXTS
        },
    )


def _values(path: Path, form) -> dict:
    values = read_json(path, _AGAIN)
    require_form(path, values, form, _AGAIN)
    return values


def _lines(path: Path, form) -> list[dict]:
    found = [record for _, record in read_jsonl(path)]
    require_form(path, found, list[form], f"delete it and {_AGAIN}")
    return found


def _gold(instance: Mapping, kind: str) -> str:
    """The text that rows of this kind are compared with."""
    if kind == "responses":
        return instance["response"]
    return instance.get("gold_persona", " ".join(instance["partner_persona"]))


def _beside(
    folder: Path, rows: Iterable[str], form: Mapping, fit: Callable
) -> dict[str, list[dict]]:
    """What was measured of rows beside their answers, as far as it was.

    form: of a record. fit: whether the ids of a file are of these instances; UserError
    if they are not.
    """
    found = {}
    for name in rows:
        path = folder / f"{name}.jsonl"
        if path.exists():
            found[name] = _lines(path, {"id": str, **form})
            if not fit([record["id"] for record in found[name]]):
                raise UserError(
                    f"{path}: is of other instances than instances.jsonl; delete it "
                    "and evaluate the run again."
                )
    return found


def _rows(folder: Path, known: Sequence[dict]) -> dict[str, Row]:
    """Our models, then the user's own rows, then the controls."""
    rows = {r["name"]: _row(r) for r in known}
    models = {name: row for name, row in rows.items() if not row.control}
    own = sorted({p.stem for p in folder.glob("*.jsonl")} - rows.keys())
    for path in sorted(folder.glob("[!.]*")):
        if path.suffix != ".jsonl" and not (
            path.suffix == ".json" and path.stem in {*own, *rows}
        ):
            raise UserError(
                f"{path}: no row's; a row is NAME.jsonl, and NAME.json beside it names "
                "it. Rename it, or take it away."
            )
    mine = {name: _own_row(folder, name, models) for name in own}
    every = models | mine | rows
    for name, row in mine.items():
        others = [n for n in every if n != name]
        for other in row.against:
            if other not in (*others, BEST_CONTROL):
                raise UserError(
                    f"{folder / name}.json: there is no row {other!r} to compare with; "
                    f"there are {', '.join(others)} and {BEST_CONTROL!r}."
                )
        if any(every[other].label == row.label for other in others):
            raise UserError(
                f"{folder / name}.json: {row.label!r} is another row's label; give one "
                "of its own."
            )
    return every


def _row(told: Mapping) -> Row:
    """A row as evaluation describes it."""
    models = tuple(m for m in told.get("models", {}).values() if m)
    against = tuple(told["against"])
    chosen = bool(told.get("contrast") or told.get("grounded"))
    return Row(told["label"], told["control"], against, False, models, chosen)


def _own_row(folder: Path, name: str, models: Mapping[str, Row]) -> Row:
    """What NAME.json says; else compared with our last row, the first, and controls."""
    # Gold personas are no model.
    first = next((n for n in models if models[n].models), next(iter(models), ""))
    compared = [n for n in models if models[n].against or n == first]
    usual = dict.fromkeys([*compared[-1:], *compared[:1], BEST_CONTROL])
    path, told = folder / f"{name}.json", {}
    if path.exists():
        told = read_json(path, 'write {"label": "...", "against": ["..."]}.')
    label, against = told.get("label", name), told.get("against", list(usual))
    unknown = ", ".join(told.keys() - {"label", "against"})
    if unknown:
        raise UserError(f"{path}: has {unknown}, and may have label and against alone.")
    if not isinstance(label, str) or not label.strip() or "\n" in label:
        raise UserError(f"{path}: label is {label!r}, expected a text of one line.")
    if not isinstance(against, list) or not all(isinstance(a, str) for a in against):
        raise UserError(f"{path}: against is {against!r}, expected a list of rows.")
    return Row(label, False, tuple(against), own=True)


def _records(path: Path, text: str, ids: Sequence[str]) -> list[dict]:
    """The lines of a row, one for each instance; UserError names the wrong one."""
    records = []
    for number, record in read_jsonl(path):
        where = f"{path}:{number}"
        if len(records) == len(ids):
            raise UserError(f"{where}: one line too many; {len(ids)} are asked.")
        expected, found = ids[len(records)], record.get("id")
        if found != expected:
            raise UserError(
                f"{where}: id is {found!r}, expected {expected!r}: one line per "
                "instance of instances.jsonl, in the same order."
            )
        _check(where, record, text)
        records.append(record)
    if len(records) != len(ids):
        raise UserError(
            f"{path}: {len(records)} lines, expected {len(ids)}; id "
            f"{ids[len(records)]!r} is the first that is missing."
        )
    for field in (text, *(f for f in _FIELDS if f not in _OF_SOME)):
        _check_all(path, records, field)
    if all(
        record.get(text) is None and record.get("nll") is None for record in records
    ):
        raise UserError(f"{path}: has neither {text!r} nor nll; give one, or both.")
    return records


def _check(where: str, record: dict, text: str) -> None:
    if not isinstance(record.get(text), str | None):
        found = type(record[text]).__name__
        raise UserError(f"{where}: {text!r} is of type {found}, expected a string.")
    for name in record.keys() - {"id", text, *_FIELDS}:
        for meant in difflib.get_close_matches(name.lower(), (text, *_FIELDS), 1, 0.8):
            raise UserError(f"{where}: unknown field {name!r}, expected {meant!r}.")
    if record.get("nll") is not None and not record.get("tokens"):
        raise UserError(
            f"{where}: nll without tokens; give the number of tokens that it counts, "
            "or null for both."
        )
    for field, (fits, expected) in _FIELDS.items():
        value = record.get(field)
        if value is not None and not fits(value):
            told = f"{where}: {field} is {value!r:.60}, expected {expected}."
            raise UserError(told)
    nll, tokens = record.get("nll"), record.get("tokens")
    if nll is not None and nll > MOST_NATS * tokens:
        raise UserError(
            f"{where}: nll is {nll}, more than {MOST_NATS} nats for each of {tokens} "
            "tokens; expected that of the gold answer, summed over these."
        )


def _is_number(value) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -MOST < value < MOST  # so that nan is none, either


# Field of a record -> whether a value fits, and what is expected.
_FIELDS = {
    "nll": (lambda v: _is_number(v) and v >= 0, "0 or more, in nats"),
    "tokens": (lambda v: _is_number(v) and v > 0 and v % 1 == 0, "a whole number"),
    "cut": (
        lambda v: _is_number(v) and 0 <= v <= MOST_CUT and v % 1 == 0,
        f"a whole number, at most {MOST_CUT:,}",
    ),
    **dict.fromkeys(
        ("critic_score", "held_out_score"),
        (lambda v: _is_number(v) and 0 <= v <= 1, "0 to 1"),
    ),
    "ended": (lambda v: isinstance(v, bool), "true or false"),
}
# A few are cut, and not everyone has a persona to be judged by.
_OF_SOME = ("cut", "critic_score", "held_out_score")


def _check_all(path: Path, records: Sequence[dict], field: str) -> None:
    missing = [n for n, r in enumerate(records, 1) if r.get(field) is None]
    if missing and len(missing) < len(records):
        raise UserError(
            f"{path}:{missing[0]}: {field} is missing, and other lines have it; give "
            "it for all or for none."
        )


def _check_words(path: Path, records: Sequence[dict], gold: Sequence[str]) -> None:
    """Names the line that costs most a word where all cost more than `MOST_NATS`."""
    words = [max(1, len(text.split())) for text in gold]
    nll = [record.get("nll") or 0.0 for record in records]
    if sum(nll) <= MOST_NATS * sum(words):
        return
    worst = max(range(len(records)), key=lambda n: nll[n] / words[n])
    raise UserError(
        f"{path}:{worst + 1}: nll is {nll[worst]} for the {words[worst]} words of the "
        f"gold answer, and that of all lines is more than {MOST_NATS} nats a word; "
        "expected that of the gold answer, in nats, summed over its tokens."
    )


def column(records: Sequence[dict], field: str) -> list | None:
    """One field of all records; None where any record lacks it."""
    values = [record.get(field) for record in records]
    return None if any(value is None for value in values) else values
