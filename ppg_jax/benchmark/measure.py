"""Rows of a benchmark, measured and written down one by one."""

import dataclasses
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ppg_jax.benchmark import figures, flops, models, parity, results, suites, workload
from ppg_jax.benchmark.suites import Row
from ppg_jax.errors import UserError
from ppg_jax.models import product

JUDGED = ("reinforce", "critic")  # suites with a critic
ADAPTED = {"train", "reinforce"}  # suites that may train adapters alone
PAIRS = 4  # of the critic at least: two related ones, two unrelated
SWEPT = ("instances", "batch_size", "max_length", "model")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a row is measured at; its record tells all of it.

    model: of `models.SIZES`. adapter_rank: of low-rank adapters, which then alone are
    trained; 0 is none. rounds: timed laps of each contestant; 0 compares
    results and times nothing. threads: cores for each; 0 is all. max_length: tokens of
    prompt and completion. The others are those of `workload.Job`.
    """

    model: str
    source: str
    split: str
    instances: int
    batch_size: int
    micro_batch: int
    parts: int
    dtype: str
    dropout: bool
    rounds: int
    threads: int
    weights: str
    max_length: int
    adapter_rank: int = 0


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Races of `rows` against `peers`, written to the folder `output`.

    models: where models are made. label: added to the name of each record, which tells
    of SmolLM2 and of adapters, too; empty: its types, if rounded.
    """

    rows: Sequence[Row]
    peers: Sequence[str]
    settings: Settings
    gpt2_tokenizer: str
    bert_tokenizer: str
    output: Path
    models: Path
    label: str

    def __post_init__(self):
        """Raises UserError if the rows cannot be measured so."""
        if self.settings.dtype == "float32" and product.rounds():
            raise UserError(
                "JAX_DEFAULT_MATMUL_PRECISION=bfloat16 rounds what --dtype=float32 "
                "should not; write --dtype=bfloat16, or unset it."
            )
        generates = {row.suite for row in self.rows} == {"generate"}
        if self.settings.weights != "float32" and not generates:
            raise UserError("--weights belongs to --suite=generate; leave it out.")
        if self.settings.adapter_rank and not {r.suite for r in self.rows} <= ADAPTED:
            raise UserError(
                "--adapter_rank belongs to --suite=train and --suite=reinforce; leave "
                "it out."
            )

    def run(self, sweep: str) -> None:
        """Measures every row, and prints a table, or without rounds what differs.

        sweep: "FIELD=V1,V2,...", a field of `SWEPT` and its values, each of them raced,
        for a cost curve; or "". A row that fails keeps no other from its race. Raises
        UserError for a wrong sweep, and at the end, if a row failed or results differ.
        """
        field, values = swept(sweep)
        for file in ("benchmark.json", "parity.json"):  # not after an hour of races
            results.load(self.output / file)
        made, failed = [], []
        for row in self.rows:
            curve = []
            for value in values:
                settings = dataclasses.replace(
                    self.settings, **{field: value} if field else {}
                )
                name = self._name(row) + (f" [{field}={value}]" if field else "")
                print(f"{name}:", file=sys.stderr)
                try:
                    curve.append(self._measure(row, name, settings))
                except UserError as error:  # the other rows may have something to say
                    failed.append(f"{name}: {error}")
            made += curve
            if field and self.settings.rounds and curve:
                stem = f"{row.name} by {field}".replace(",", "").replace(" ", "_")
                figures.draw_curve(curve, field, self.output / f"{stem}.png")
        if not self.settings.rounds:
            failed += _unequal(made)
        elif made:
            print(results.table(results.load(self.output / "benchmark.json")))
        for told in failed[:-1]:
            print(told, file=sys.stderr)
        if failed:
            raise UserError(failed[-1])

    def _name(self, row: Row) -> str:
        types = self.settings.dtype, f"{self.settings.weights} weights"
        rounded = [name for name in types if not name.startswith("float32")]
        model = [models.SMOLLM2] * (self.settings.model == models.SMOLLM2)
        model += ["adapters"] * bool(self.settings.adapter_rank)
        return ", ".join([row.name, *model, *([self.label] if self.label else rounded)])

    def _measure(self, row: Row, name: str, settings: Settings) -> dict:
        """The record of that name, which is also written."""
        job = self._job(row, settings)
        # Where the data lies is of no use to a reader, what it is called is.
        told = dataclasses.asdict(settings) | {"source": Path(settings.source).name}
        # Then the first lap may have been compiled by another race.
        told["compilation_cache"] = "JAX_COMPILATION_CACHE_DIR" in os.environ
        if not settings.rounds:
            compared = parity.compare(row, job, self.peers)
            made = results.parity_record(name, compared, told)
            results.add(self.output / "parity.json", made)
            return made
        found = suites.run_row(row, job, self.peers, settings.rounds, settings.threads)
        made = results.record(name, found, workload.count(job), told, flops.need(job))
        results.save(self.output, made)
        return made

    def _job(self, row: Row, settings: Settings) -> workload.Job:
        size, folder = settings.model, self.models
        generator, critic = folder / f"generator_{size}", ""
        if row.suite in JUDGED:
            critic = folder / f"critic_{size}"
            critic = models.write_critic(size, self.bert_tokenizer, critic)
        if row.suite == "train" and settings.batch_size % settings.parts:
            told = f"--parts={settings.parts} does not divide --batch_size"
            raise UserError(f"{told}={settings.batch_size}; give a divisor.")
        if row.suite == "critic" and 0 < settings.instances < PAIRS:
            raise UserError(f"--instances of the critic's rows: {PAIRS} or more.")
        job = workload.Job(
            suite=row.suite,
            **models.generators(
                row.suite, size, settings.adapter_rank, self.gpt2_tokenizer, generator
            ),
            critic=critic,
            source=settings.source,
            split=settings.split,
            instances=settings.instances,
            batch_size=settings.batch_size,
            micro_batch=settings.micro_batch,
            parts=settings.parts,
            dtype=settings.dtype,
            dropout=settings.dropout,
            weights=settings.weights,
            prompts=models.prompts(size, settings.max_length),
            tolerance=models.tolerance(size),
        )
        return dataclasses.replace(job, **row.changes)


def rows(
    suite: str, names: Sequence[str], forms: Sequence[str] = tuple(suites.FORMS)
) -> list[Row]:
    """Those of these names, in their order, or all of the suite ("all": of any), with
    these forms of PyTorch's, of `suites.FORMS`.

    Raises UserError for a name that it does not have, and a row without such a form.
    """
    known = {row.name: row for row in suites.ROWS if suite in (row.suite, "all")}
    for name in names:
        if name not in known:
            raise UserError(
                f"--row={name!r} is not in that suite; the rows: {', '.join(known)}"
            )
    made = []
    for row in (known[name] for name in names or known):
        kept = [form for form in row.forms if form in forms]
        if not kept:
            raise UserError(f"--form: {row.name} has {row.forms[0]!r} only.")
        made.append(row._replace(forms=kept))
    return made


def swept(sweep: str) -> tuple[str, list]:
    """ "FIELD=V1,V2,..." -> the field and its values; "" -> "" and one of None."""
    if not sweep:
        return "", [None]
    field, _, listed = sweep.partition("=")
    if field not in SWEPT or not listed:
        raise UserError(f"--sweep={sweep!r}; write for example instances=64,256.")
    values = listed.split(",")
    if field == "model":
        unknown = [v for v in values if v not in models.SIZES]
    else:
        unknown = [v for v in values if not v.isdigit() or int(v) < 1]
        values = values if unknown else [int(v) for v in values]
    if unknown:
        raise UserError(f"--sweep: {unknown[0]!r} is no value of {field}.")
    return field, values


def _unequal(records: Iterable[dict]) -> list[str]:
    """Prints what was found; the contestants that are not equal to ours."""
    apart = []
    for record in records:
        for name, found in record["contestants"].items():
            print(f"{record['name']}, {name}: {found}")
            if found["equal"] is False:
                apart.append(f"{record['name']} of {name} is not equal to ours")
    return apart
