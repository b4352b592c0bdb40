"""Measures and checks everything on a GPU within a time, the most telling first.

bash launch/gpu_benchmark.sh calls it, once the packages are there:

python -m launch.gpu_benchmark --source=data/personachat \\
    --gpt2_tokenizer=FOLDER --bert_tokenizer=FOLDER

First, side by side, ours alone compiles the programs of the first races into the
compile cache, so that these, one after the other, compile little. Writes into
--output: plan.json (what was done, failed, was stopped or skipped, and why),
alone/ROW/benchmark.json (what compiling took), benchmark.{json,md,png}, parity.json and
attention.json. Called again, it goes on with what is not done.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from ppg_jax.benchmark import plan, results, suites
from ppg_jax.launching import main

SOURCE = flags.DEFINE_string("source", "persona_world", "Of the dialogues.")
GPT2_TOKENIZER = flags.DEFINE_string("gpt2_tokenizer", "gpt2", "A folder or hub id.")
BERT_TOKENIZER = flags.DEFINE_string(
    "bert_tokenizer", "distilbert-base-uncased", "A folder or hub id."
)
BUDGET = flags.DEFINE_float("budget", 540, "Seconds for all of it.", 1)
TRIAL = flags.DEFINE_bool("trial", False, "The same plan in a size for a CPU.")
OUTPUT = flags.DEFINE_string("output", "runs/benchmark_gpu", "Where the results go.")
MODELS = flags.DEFINE_string("models", "runs/models", "Where the models go.")

# Instances of a lap, then how many at once: dialogues, contexts or pairs, and instances
# of PyTorch. Few shapes, for XLA compiles a program for each.
LAPS = {
    "train": (448, 64, 64),
    "score": (448, 64, 64),
    "generate": (512, 512, 512),
    "reinforce": (64, 64, 64),
    "critic": (512, 256, 256),
}
TRIAL_LAP = (8, 4, 4)
DTYPES = ("bfloat16", "float32")
# One of each suite, and then what is left of the suites.
FIRST = (
    "train response",
    "generate, greedy",
    "reinforce",
    "score response",
    "train critic",
)
REST = tuple(row.name for row in suites.ROWS if row.name not in FIRST)
# float32 in full: the GPU would otherwise round its factors to ten bits.
FULL = {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "NVIDIA_TF32_OVERRIDE": "0"}


def program():
    # Contestants share the device: none may take all of its memory at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    facts = {"versions": results.versions(), "machine": results.machine()}
    facts["gpu"] = facts["machine"]["platform"] == "gpu"
    facts["peer"] = "torch" if _torch() else None
    if not facts["gpu"]:
        hint = "JAX has no CUDA: " if shutil.which("nvidia-smi") else ""
        print(f"{hint}no GPU is in use; this is the CPU.", file=sys.stderr)
    if not _torch():
        print("PyTorch is not installed; ours runs alone.", file=sys.stderr)
    # A program that one race has compiled is not compiled again by another.
    cache = Path("runs/xla_gpu").absolute()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    path = Path(OUTPUT.value) / "plan.json"
    made = plan.run_plan(list(entries()), BUDGET.value, path, facts)
    states = [entry["status"] for entry in made["entries"]]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    print(f"{path}: {counts}")


def entries() -> Iterator[plan.Entry]:
    """The plan."""
    sizes = ("tiny", "tiny") if TRIAL.value else ("small", "medium")
    first, rest = DTYPES
    yield from _alone(FIRST, sizes[0], first)
    yield from _races(FIRST, sizes[0], first, "torch_eager")
    yield _attention(first)
    yield from _parity()
    yield from _races(REST, sizes[0], first, "torch_eager")
    yield from _races(FIRST, sizes[0], rest, "torch_eager")
    yield _attention(rest)
    if _torch():
        yield from _races(FIRST[:2], sizes[0], first, "torch_compile")
    yield from _races(REST, sizes[0], rest, "torch_eager")
    if not TRIAL.value:
        yield from _races(FIRST[:3], sizes[1], first, "torch_eager")
    if _torch():
        yield from _races(FIRST[2:], sizes[0], first, "torch_compile")


def _torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _program(name: str, *options) -> list[str]:
    return [
        sys.executable,
        "-m",
        f"launch.{name}",
        f"--output={OUTPUT.value}",
        *options,
    ]


def _benchmark(*options) -> list[str]:
    return _program(
        "benchmark",
        f"--source={SOURCE.value}",
        f"--gpt2_tokenizer={GPT2_TOKENIZER.value}",
        f"--bert_tokenizer={BERT_TOKENIZER.value}",
        f"--models={MODELS.value}",
        "--threads=0",
        *options,
    )


def _lap(instances: int, at_once: int, micro_batch: int) -> list[str]:
    return [
        f"--instances={instances}",
        f"--batch_size={at_once}",
        f"--micro_batch={micro_batch}",
    ]


def _parity() -> Iterator[plan.Entry]:
    """All rows in float32, a small model, nothing timed."""
    options = [f"--model={'tiny' if TRIAL.value else 'mini'}", *_lap(*TRIAL_LAP)]
    peer = "torch_eager" if _torch() else "none"
    for suite in suites.SUITES:
        command = _benchmark(
            f"--suite={suite}", "--rounds=0", f"--peer={peer}", *options
        )
        name = "parity" if _torch() else "once, with nothing to compare"
        yield plan.Entry(f"{suite}, {name}", command, FULL)


def _alone(names: Sequence[str], size: str, dtype: str) -> Iterator[plan.Entry]:
    """Ours without a peer: what it compiles stays in the compile cache."""
    for row in names:
        folder = f"--output={OUTPUT.value}/alone/{row.replace(', ', '_')}"
        command = [*_row(row, size, dtype), "--peer=none", "--rounds=1", folder]
        yield plan.Entry(f"{row}, {size}, {dtype}, alone", command, together=True)


def _races(
    names: Sequence[str], size: str, dtype: str, peer: str
) -> Iterator[plan.Entry]:
    compiled = peer == "torch_compile"
    label = f"{size}, {dtype}" + (", compiled" if compiled else "")
    # PyTorch's compiler takes a minute where ours takes seconds.
    least, most = (60, 240) if compiled else (30, 150)
    for row in names:
        options = [
            f"--peer={peer if _torch() else 'none'}",
            f"--label={label}",
            f"--rounds={1 if TRIAL.value else 7}",
        ]
        command = [*_row(row, size, dtype), *options]
        yield plan.Entry(f"{row}, {label}", command, least=least, most=most)


def _row(name: str, size: str, dtype: str) -> list[str]:
    suite = next(row.suite for row in suites.ROWS if row.name == name)
    return _benchmark(
        f"--suite={suite}",
        f"--row={name}",
        f"--model={size}",
        f"--dtype={dtype}",
        # As one loads a model to generate with it.
        *([f"--weights={dtype}"] if suite == "generate" and not TRIAL.value else []),
        *_lap(*TRIAL_LAP if TRIAL.value else LAPS[suite]),
    )


def _attention(dtype: str) -> plan.Entry:
    options = ["--trial"] if TRIAL.value else []
    command = _program("benchmark_attention", f"--dtype={dtype}", *options)
    return plan.Entry(f"attention, {dtype}", command)


if __name__ == "__main__":
    main(program)
