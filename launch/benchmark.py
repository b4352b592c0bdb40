"""Races ppg_jax against PyTorch and others at the work that users do.

python -m launch.benchmark --suite=train --source=data/personachat \\
    --gpt2_tokenizer=FOLDER --bert_tokenizer=FOLDER

Writes benchmark.json, benchmark.md and benchmark.png into --output after every row.
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from ppg_jax.benchmark import results, suites, workload
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.errors import UserError
from ppg_jax.launching import main

SUITE = flags.DEFINE_enum("suite", "train", [*suites.SUITES, "all"], "Which races.")
ROW = flags.DEFINE_string("row", "", "Only the row of this name.")
PEER = flags.DEFINE_multi_enum("peer", ["torch_eager"], suites.PEERS, "Against whom.")
MODEL = flags.DEFINE_enum(
    "model", "small", list(workload.GPT2_SIZES), "Size of the generator and critic."
)
SOURCE = flags.DEFINE_string("source", "persona_world", "Of the dialogues.")
SPLIT = flags.DEFINE_string("split", "valid", "Which of the source.")
GPT2_TOKENIZER = flags.DEFINE_string("gpt2_tokenizer", "gpt2", "A folder or hub id.")
BERT_TOKENIZER = flags.DEFINE_string(
    "bert_tokenizer", "distilbert-base-uncased", "A folder or hub id."
)
INSTANCES = flags.DEFINE_integer("instances", 64, "Of one lap; 0 is all.", 0)
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 4, "Dialogues (train, score), contexts or pairs at once.", 1
)
MICRO_BATCH = flags.DEFINE_integer("micro_batch", 8, "Instances at once; PyTorch.", 1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Compute type.")
DROPOUT = flags.DEFINE_bool("dropout", False, "Whether training drops out.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Laps of each contestant.", 1)
THREADS = flags.DEFINE_integer("threads", 2, "Cores for each; 0 is all.", 0)
SWEEP = flags.DEFINE_string(
    "sweep", "", "A cost curve: FLAG=V1,V2,... with instances, batch_size or model."
)
OUTPUT = flags.DEFINE_string("output", "runs/benchmark", "Where the results go.")
SWEPT = ("instances", "batch_size", "model")


def program():
    rows = [
        row
        for row in suites.ROWS
        if SUITE.value in (row.suite, "all") and ROW.value in ("", row.name)
    ]
    if not rows:
        names = ", ".join(row.name for row in suites.ROWS)
        raise UserError(f"--row={ROW.value!r} is not in that suite; the rows: {names}")
    field, values = _sweep()
    for row in rows:
        curve = []
        for value in values:
            settings = _settings() | ({field: value} if field else {})
            name = f"{row.name} [{field}={value}]" if field else row.name
            print(f"{name}:", file=sys.stderr)
            curve.append(_run(row, name, settings))
        if field:
            stem = f"{row.name} by {field}".replace(",", "").replace(" ", "_")
            results.draw_curve(curve, field, Path(OUTPUT.value) / f"{stem}.png")
    print(results.table(results.load(Path(OUTPUT.value))))


def _settings() -> dict:
    names = (
        "model source split instances batch_size micro_batch dtype dropout rounds "
        "threads"
    )
    return {name: flags.FLAGS[name].value for name in names.split()}


def _run(row: suites.Row, name: str, settings: dict) -> dict:
    output = Path(OUTPUT.value)
    models = output / "models"
    size = settings["model"]
    job = workload.Job(
        suite=row.suite,
        generator=workload.write_generator(
            size, GPT2_TOKENIZER.value, models / f"generator_{size}"
        ),
        critic=workload.write_critic(
            size, BERT_TOKENIZER.value, models / f"critic_{size}"
        ),
        source=settings["source"],
        split=settings["split"],
        instances=settings["instances"],
        batch_size=settings["batch_size"],
        micro_batch=settings["micro_batch"],
        dtype=settings["dtype"],
        dropout=settings["dropout"],
        # The mean lengths of PersonaChat, which random weights never end at.
        prompts=PromptConfig(max_persona_tokens=48, max_response_tokens=16),
    )
    found = suites.run_row(
        row, job, PEER.value, settings["rounds"], settings["threads"]
    )
    count = workload.count(dataclasses.replace(job, **row.changes))
    # Where the data lies is of no use to a reader, what it is called is.
    told = settings | {"source": Path(settings["source"]).name}
    made = results.record(name, found, count, told)
    results.save(output, made)
    return made


def _sweep() -> tuple[str, list]:
    if not SWEEP.value:
        return "", [None]
    field, _, listed = SWEEP.value.partition("=")
    if field not in SWEPT or not listed:
        raise UserError(f"--sweep={SWEEP.value!r}; write for example instances=64,256.")
    values = listed.split(",")
    if field == "model":
        unknown = [v for v in values if v not in workload.GPT2_SIZES]
    else:
        unknown = [v for v in values if not v.isdigit() or int(v) < 1]
        values = values if unknown else [int(v) for v in values]
    if unknown:
        raise UserError(f"--sweep: {unknown[0]!r} is no value of {field}.")
    return field, values


if __name__ == "__main__":
    main(program)
