"""Every row on the test split, beside controls that understand nothing.

Predictions go to `evaluate/` in the run directory, a file per row as soon as it is
done, so an interrupted evaluation goes on in the row where it was (`answering`);
`rows.json` says what the rows are. `ppg_jax.report` turns the files into tables and
figures.

A model of one's own becomes one more row by writing its answers, in the same form, to
`evaluate/responses/NAME.jsonl`.
"""

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ppg_jax import run_dir
from ppg_jax.config import (
    DTYPES,
    flatten,
    require_count,
    require_one_of,
    require_positive,
)
from ppg_jax.data import corpus
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import Dialogue, Instance, dialogue_of, instances
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.errors import UserError
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.embedding import Encoder
from ppg_jax.inference.sampling import Decoding
from ppg_jax.systems import answered, answering, swapped
from ppg_jax.systems.controls import CONTROLS, GOLD, TOKENIZER, Gold, NGram
from ppg_jax.systems.provenance import commit, provenance
from ppg_jax.systems.system import KINDS, Asking, System
from ppg_jax.training.run_log import duration

JUDGED = ("critic_score", "held_out_score")  # fields of a record, one a critic
WORDS = ("label", "against")  # of a row: what the report alone reads


@dataclasses.dataclass(frozen=True)
class Config:
    """What is evaluated, and how completions are drawn (greedy: temperature 0).

    critic: the stage that judges responses, if it has finished; held_out: another one,
    that learned of other dialogues and judges the same. max_dialogues: only so
    many test dialogues, chosen by seed; 0 is all. swapped_dialogues: for so many of
    them, models are asked what they find likely given another dialogue's conversation
    or persona, too; 0 for none. paper: whether the report shows the paper's numbers,
    which are of PersonaChat. batch_size: as `inference.generator.Generator` has it.
    dtype: what the generators compute in.
    """

    name: str = "evaluate"
    title: str = "Partner persona generation"  # of the report
    data: DataConfig = DataConfig()
    prompts: PromptConfig = PromptConfig()
    critic: str = "critic"
    held_out: str = ""
    paper: bool = False
    split: str = "test"  # or valid, train
    max_dialogues: int = 0
    swapped_dialogues: int = 200
    temperature: float = 0.0  # 0 is greedy
    top_p: float = 1.0  # likeliest mass; 1 is off
    batch_size: int = 64
    dtype: str = "float32"
    seed: int = 0  # of what is drawn: dialogues, samples, controls

    def __post_init__(self):
        if self.name != "evaluate":  # where the report looks for it
            told = "is always 'evaluate'; give another --workdir to evaluate otherwise"
            raise ValueError(f"name={self.name!r}: {told}.")
        require_positive(self, "batch_size")
        require_count(self, "max_dialogues", "swapped_dialogues", "seed")
        require_one_of(self, dtype=DTYPES, split=corpus.SPLITS)
        Decoding(1, temperature=self.temperature, top_p=self.top_p)  # checks them
        if self.max_dialogues == 1:
            raise ValueError("max_dialogues=1: intervals need two dialogues or more.")

    @property
    def critics(self) -> dict[str, str]:
        """The stage of each critic, by the field of its scores."""
        named = zip(JUDGED, (self.critic, self.held_out), strict=True)
        return {field: stage for field, stage in named if stage}


def run(config: Config, workdir: Path, systems: Mapping[str, System]) -> dict:
    """Answers and scores of the controls and of all rows whose stages have finished."""
    workdir = Path(workdir)
    folder = workdir / config.name
    splits = corpus.load_splits(config.data)
    asked = chosen(config, splits[config.split])
    _claim(config, workdir, systems, splits)
    began = time.monotonic()
    answered.write_references(folder, asked, splits["train"])
    asking = Asking(
        workdir,
        splits["train"],
        config.prompts,
        config.temperature,
        config.top_p,
        config.batch_size,
        config.seed,
        config.dtype,
        splits[config.split],
    )
    critics = critics_of(config, asking)
    rows = {kind: [] for kind in KINDS}
    made_by = answered.values(folder / answered.MADE_BY)
    known = answered.values(folder / answered.ROWS)
    ours = {kind: [row["name"] for row in known.get(kind, ())] for kind in KINDS}
    for kind, name, row in rows_of(workdir, systems):
        path, unfinished = (
            folder / part / kind / f"{name}.jsonl" for part in ("", "unfinished")
        )
        if not path.exists():
            start = time.monotonic()
            _write_row(unfinished, row, asking, asked, critics)
            path.parent.mkdir(exist_ok=True)
            made_by[f"{kind}/{name}"] = commit()
            answered.write(folder / answered.MADE_BY, made_by)
            unfinished.rename(path)
            _tell(f"{kind} of {name}", start)
        elif f"{kind}/{name}" not in made_by and name not in ours[kind]:
            raise UserError(
                f"{path} is a row of your own with the name of one of the config's; "
                "rename it."
            )
        rows[kind].append({"name": name, **row.description})
    write_traits(folder, asked)
    write_swapped(config, folder, asking, asked, systems)
    answered.write(folder / answered.ROWS, rows)
    made = {"rows": made_by, "split_dialogues": len(splits[config.split])}
    made = provenance(config, workdir) | made
    answered.write(folder / "provenance.json", made)
    done = folder / run_dir.RESULT
    before = answered.values(done).get(answered.SECONDS) or 0.0
    took = before + time.monotonic() - began
    result = {"instances": len(asked), answered.SECONDS: took}
    answered.write(done, result)
    return run_dir.report_done(config.name, result)


def _claim(config: Config, workdir: Path, systems, splits) -> None:
    """Refuses stages of other data or prompts, and a folder of another evaluation.

    What rows answered that are other ones now is set aside."""
    folder = workdir / config.name
    needed = {need for row in systems.values() for need in row.needs}
    needed |= {*config.critics.values()}
    stages = [name for name in sorted(needed) if run_dir.finished(workdir, name)]
    train = corpus.sums_of(splits, "train")
    for name in stages:
        run_dir.require_fresh(workdir, name)
        run_dir.agree(workdir / name, config, train, "prompts")
    weights = {
        f"{name} model": run_dir.result_of(workdir / name)["params_sha256"]
        for name in stages
    }
    test = {"test data": corpus.fingerprint(splits[config.split])}
    rows, before = _rows_asked(workdir, systems), answered.claimed(folder)
    as_before = {k: v for k, v in before.items() if k.startswith("row ")}
    # Answers of rows that are gone are kept: they are of these models.
    others = before.keys() - as_before - {f"{name} model" for name in needed}
    inputs = {k: before[k] for k in others if k.endswith(" model")}
    inputs |= weights | test | train
    # A row whose stage finished since is one more row; but every response has a score
    # by a critic, or none has.
    judges = {f"{name} model" for name in config.critics.values()}
    later = weights.keys() - judges | rows.keys()
    run_dir.claim(folder, config, inputs | rows | as_before, later)
    answered.change(folder, answered.rows_of(rows))
    run_dir.claim(folder, config, inputs | rows, later)


def _rows_asked(workdir: Path, systems) -> dict[str, str]:
    """SHA-256 of what decides a row's answers: a file of other ones is not its own."""
    return {
        f"row {name}": _sha256({k: v for k, v in said.items() if k not in WORDS})
        for _, name, row in rows_of(workdir, systems)
        if name in systems
        for said in [flatten(row)]
    }


def _sha256(values: dict) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def critics_of(config: Config, asking: Asking) -> dict[str, Critic]:
    """Those that judge responses, by field, as far as their stages have finished."""
    return {
        field: Critic.load(asking.workdir / run_dir.model_folder(name), **asking.shared)
        for field, name in config.critics.items()
        if run_dir.finished(asking.workdir, name)
    }


def rows_of(
    workdir: Path, systems: Mapping[str, System]
) -> Iterator[tuple[str, str, System]]:
    """(kind, name, row) of all that can be asked, in the order of the tables."""
    yield "personas", GOLD, Gold()
    for name, row in systems.items():
        if all(run_dir.finished(workdir, need) for need in row.needs):
            yield row.kind, name, row
    for kind, controls in CONTROLS.items():
        for name, row in controls.items():
            # Without a tokenizer of the run there is nothing to count.
            if not isinstance(row, NGram) or (workdir / TOKENIZER).is_dir():
                yield kind, name, row


def chosen(config: Config, dialogues: Sequence[Dialogue]) -> tuple[Instance, ...]:
    """The instances that are asked: of all dialogues, or of a seeded choice.

    UserError where they are of one dialogue."""
    if config.max_dialogues and config.max_dialogues < len(dialogues):
        order = np.random.default_rng(config.seed).permutation(len(dialogues))
        picked = sorted(order[: config.max_dialogues])
        dialogues = [dialogues[i] for i in picked]
    asked = instances(dialogues)
    if len({dialogue_of(instance.id) for instance in asked}) < 2:
        told = f"the {config.split} split has fewer than two dialogues with replies"
        raise UserError(f"{told}; there is no interval without two: give more of them.")
    return asked


def _write_row(
    path: Path, row: System, asking: Asking, asked, critics: Mapping[str, Critic]
) -> None:
    """The records of a row, part by part, from where `path` ends."""
    known = answered.begun(path, row.kind, [i.id for i in asked])
    before, began = len(known), time.monotonic()
    for part in answering.records(row, asking, asked, before):
        known += part
        answered.write(path, known)
        took = time.monotonic() - began
        if took < 1:  # texts that are there
            continue
        rate = (len(known) - before) / took
        left = duration((len(asked) - len(known)) / rate)
        told = f"{len(known)}/{len(asked)}  {rate:.3g} instances/s  ETA {left}"
        print(f"evaluate: {path.stem} {told}", file=sys.stderr, flush=True)
    if row.kind == "responses":
        for field in JUDGED:
            judge = critics.get(field)
            scores = answering.critic_scores(row, asked, known, judge)
            for record, score in zip(known, scores, strict=True):
                record[field] = score
        answered.write(path, known)


def write_traits(folder: Path, asked: Sequence[Instance]) -> None:
    """How right each row of personas is, the user's own too (`inference.traits`)."""
    start = time.monotonic()
    try:
        encoder = Encoder.load()
    except UserError as error:
        answered.uncounted(folder)
        print(f"traits are not measured: {error}", file=sys.stderr, flush=True)
    else:
        answered.count_traits(folder, asked, encoder)
        _tell("traits", start)


def write_swapped(config: Config, folder: Path, asking: Asking, asked, systems) -> None:
    """What each model finds likely given what is a stranger's (`systems.swapped`)."""
    some = swapped.chosen(asked, config.swapped_dialogues, config.seed)
    found = swapped.strangers(some, asked, config.seed)
    pairs = [pair for pair in zip(some, found, strict=True) if pair[1]]
    if not pairs:
        return
    mine, others = map(list, zip(*pairs, strict=True))
    for kind, name, row in rows_of(asking.workdir, systems):
        path = folder / "swapped" / kind / f"{name}.jsonl"
        if name in systems and not answered.holds(path, [i.id for i in mine]):
            start = time.monotonic()
            made = swapped.records(row, asking, mine, others)
            if made is not None:
                answered.write(path, made)
                _tell(f"{kind} of {name}, swapped", start)


def _tell(what: str, start: float) -> None:
    seconds = f"{time.monotonic() - start:.0f} s"
    print(f"evaluate: {what}: {seconds}", file=sys.stderr, flush=True)
