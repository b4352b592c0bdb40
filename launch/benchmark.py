"""Races ppg_jax against PyTorch and others at the work that users do.

python -m launch.benchmark --suite=train --source=data/personachat \\
    --gpt2_tokenizer=FOLDER --bert_tokenizer=FOLDER

Writes benchmark.json, benchmark.md and benchmark.png into --output after every row;
with --rounds=0 only parity.json: how far the results are apart, without a race.
"""

import dataclasses
import os
import sys
from pathlib import Path

from absl import flags

from ppg_jax.benchmark import flops, parity, results, suites, workload
from ppg_jax.data.prompts import PromptConfig
from ppg_jax.errors import UserError
from ppg_jax.launching import main
from ppg_jax.models import product, quantize

SWEPT = ("instances", "batch_size", "max_length", "model")

SUITE = flags.DEFINE_enum("suite", "train", [*suites.SUITES, "all"], "Which races.")
ROW = flags.DEFINE_multi_string("row", [], "Only the rows of these names.")
PEER = flags.DEFINE_multi_enum(
    "peer", ["torch_eager"], [*suites.PEERS, "none"], "Against whom."
)
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
MICRO_BATCH = flags.DEFINE_integer(
    "micro_batch", 8, "Instances at once; PyTorch's, and contexts of CTranslate2.", 1
)
PARTS = flags.DEFINE_integer("parts", 1, "Of a gradient, one after the other; ours.", 1)
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Compute type; on CPU, of products."
)
WEIGHTS = flags.DEFINE_enum(
    "weights", "float32", quantize.WEIGHTS, "Of the generate suite's models."
)
MAX_LENGTH = flags.DEFINE_integer(
    "max_length", PromptConfig.max_length, "Tokens of prompt and completion.", 1
)
DROPOUT = flags.DEFINE_bool("dropout", False, "Whether training drops out.")
ROUNDS = flags.DEFINE_integer("rounds", 6, "Timed laps of each contestant.", 0)
THREADS = flags.DEFINE_integer("threads", 2, "Cores for each; 0 is all.", 0)
SWEEP = flags.DEFINE_string(
    "sweep", "", f"A cost curve: FLAG=V1,V2,... with FLAG one of {', '.join(SWEPT)}."
)
LABEL = flags.DEFINE_string(
    "label", "", "Added to the name of each row's record; empty: its types, if rounded."
)
OUTPUT = flags.DEFINE_string("output", "runs/benchmark", "Where the results go.")
MODELS = flags.DEFINE_string("models", "", "Where the models go; empty: the output.")


def program():
    # Contestants share a GPU: none may take all of its memory at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    rows = _rows()
    if DTYPE.value == "float32" and product.rounds():
        raise UserError(
            "JAX_DEFAULT_MATMUL_PRECISION=bfloat16 rounds what --dtype=float32 "
            "should not; write --dtype=bfloat16, or unset it."
        )
    if WEIGHTS.value != "float32" and {row.suite for row in rows} != {"generate"}:
        raise UserError("--weights belongs to --suite=generate; leave it out.")
    field, values = _sweep()
    made, failed = [], []
    for row in rows:
        curve = []
        for value in values:
            settings = _settings() | ({field: value} if field else {})
            name = ", ".join([row.name, *_labels()])
            name += f" [{field}={value}]" if field else ""
            print(f"{name}:", file=sys.stderr)
            try:
                curve.append(_run(row, name, settings))
            except UserError as error:  # the other rows may have something to say
                failed.append(f"{name}: {error}")
        made += curve
        if field and ROUNDS.value and curve:
            stem = f"{row.name} by {field}".replace(",", "").replace(" ", "_")
            results.draw_curve(curve, field, Path(OUTPUT.value) / f"{stem}.png")
    if not ROUNDS.value:
        failed += _unequal(made)
    elif made:
        print(results.table(results.load(Path(OUTPUT.value) / "benchmark.json")))
    for told in failed[:-1]:
        print(told, file=sys.stderr)
    if failed:
        raise UserError(failed[-1])


def _rows() -> list[suites.Row]:
    """Those of --row, in its order, or all of the suite."""
    rows = [row for row in suites.ROWS if SUITE.value in (row.suite, "all")]
    known = {row.name: row for row in rows}
    for name in ROW.value:
        if name not in known:
            raise UserError(
                f"--row={name!r} is not in that suite; the rows: {', '.join(known)}"
            )
    return [known[name] for name in ROW.value] or rows


def _labels() -> list[str]:
    """What a record's name says besides its row."""
    if LABEL.value:
        return [LABEL.value]
    labels = [DTYPE.value, f"{WEIGHTS.value} weights"]
    return [label for label in labels if not label.startswith("float32")]


def _unequal(records: list[dict]) -> list[str]:
    """Prints what was found; the contestants that are not equal to ours."""
    apart = []
    for record in records:
        for name, found in record["contestants"].items():
            print(f"{record['name']}, {name}: {found}")
            if found["equal"] is False:
                apart.append(f"{record['name']} of {name} is not equal to ours")
    return apart


def _settings() -> dict:
    names = (
        "model source split instances batch_size micro_batch parts dtype dropout "
        "rounds threads weights max_length"
    )
    return {name: flags.FLAGS[name].value for name in names.split()}


def _run(row: suites.Row, name: str, settings: dict) -> dict:
    """One row's record, which is also written."""
    output = Path(OUTPUT.value)
    job = dataclasses.replace(_job(row, settings), **row.changes)
    # Where the data lies is of no use to a reader, what it is called is.
    told = settings | {"source": Path(settings["source"]).name}
    # Then the first lap may have been compiled by another race.
    told["compilation_cache"] = "JAX_COMPILATION_CACHE_DIR" in os.environ
    peers = [peer for peer in PEER.value if peer != "none"]
    if not settings["rounds"]:
        made = results.parity_record(name, parity.compare(row, job, peers), told)
        results.add(output / "parity.json", made)
        return made
    found = suites.run_row(row, job, peers, settings["rounds"], settings["threads"])
    made = results.record(name, found, workload.count(job), told, flops.need(job))
    results.save(output, made)
    return made


def _job(row: suites.Row, settings: dict) -> workload.Job:
    models, size = (
        Path(MODELS.value or Path(OUTPUT.value) / "models"),
        settings["model"],
    )
    names = "source split instances batch_size micro_batch parts dtype weights"
    return workload.Job(
        suite=row.suite,
        generator=workload.write_generator(
            size, GPT2_TOKENIZER.value, models / f"generator_{size}"
        ),
        critic=workload.write_critic(
            size, BERT_TOKENIZER.value, models / f"critic_{size}"
        ),
        dropout=settings["dropout"],
        # Random weights never end, so these are the lengths of all completions; those
        # of PersonaChat have 37 and 14 tokens on average.
        prompts=PromptConfig(
            max_length=settings["max_length"],
            max_persona_tokens=48,
            max_response_tokens=16,
        ),
        **{name: settings[name] for name in names.split()},
    )


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
