"""Checks and measures everything on a GPU within a time, the most telling first.

bash launch/gpu_benchmark.sh calls it, once the packages are there:

python -m launch.gpu_benchmark --source=data/personachat \\
    --gpt2_tokenizer=FOLDER --bert_tokenizer=FOLDER

Writes into --output: plan.json (what was done, failed, was stopped or skipped, and
why), parity.json, benchmark.{json,md,png} and attention.json. Called again, it goes on
with what is not done.
"""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
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
# of PyTorch.
LAPS = {
    "train": (448, 32, 64),
    "score": (448, 32, 64),
    "generate": (256, 64, 64),
    "reinforce": (64, 32, 32),
    "critic": (1024, 128, 128),
}
TRIAL_LAP = (8, 4, 4)
DTYPES = ("bfloat16", "float32")
# One of each suite, and then what is left of the suites.
FIRST = (
    "train response",
    "score response",
    "generate, greedy",
    "reinforce",
    "train critic",
)
REST = tuple(row.name for row in suites.ROWS if row.name not in FIRST)
# float32 in full: the GPU would otherwise round its factors to ten bits.
FULL = {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "NVIDIA_TF32_OVERRIDE": "0"}


def program():
    facts = {"versions": results.versions(), "machine": results.machine()}
    facts["gpu"] = facts["machine"]["platform"] == "gpu"
    facts["peer"] = "torch" if _torch() else None
    if not facts["gpu"]:
        hint = "JAX has no CUDA: " if shutil.which("nvidia-smi") else ""
        print(f"{hint}no GPU is in use; this is the CPU.", file=sys.stderr)
    if not _torch():
        print("PyTorch is not installed; ours runs alone.", file=sys.stderr)
    path = Path(OUTPUT.value) / "plan.json"
    made = plan.run_plan(list(entries()), BUDGET.value, path, facts)
    states = [entry["status"] for entry in made["entries"]]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    print(f"{path}: {counts}")


def entries() -> Iterator[plan.Entry]:
    """The plan."""
    sizes = ("tiny", "tiny") if TRIAL.value else ("small", "medium")
    yield _parity()
    for dtype in DTYPES:
        yield from (_race(name, sizes[0], dtype, "torch_eager") for name in FIRST)
        yield _attention(dtype)
    if _torch():
        for dtype in DTYPES:
            for name in FIRST[:2]:
                yield _race(name, sizes[0], dtype, "torch_compile")
    for dtype in DTYPES:
        yield from (_race(name, sizes[0], dtype, "torch_eager") for name in REST)
    if not TRIAL.value:
        for dtype in DTYPES:
            for name in FIRST[:3]:
                yield _race(name, sizes[1], dtype, "torch_eager")
    if _torch():
        for dtype in DTYPES:
            for name in FIRST[2:]:
                yield _race(name, sizes[0], dtype, "torch_compile")


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


def _parity() -> plan.Entry:
    """All rows in float32, a small model, nothing timed."""
    options = [f"--model={'tiny' if TRIAL.value else 'mini'}", *_lap(*TRIAL_LAP)]
    peer = "torch_eager" if _torch() else "none"
    command = _benchmark("--suite=all", "--rounds=0", f"--peer={peer}", *options)
    name = "parity, float32" if _torch() else "all rows once, with nothing to compare"
    return plan.Entry(name, command, FULL, most=120)


def _race(name: str, size: str, dtype: str, peer: str) -> plan.Entry:
    suite = next(row.suite for row in suites.ROWS if row.name == name)
    label = f"{size}, {dtype}" + (", compiled" if peer == "torch_compile" else "")
    command = _benchmark(
        f"--suite={suite}",
        f"--row={name}",
        f"--peer={peer if _torch() else 'none'}",
        f"--model={size}",
        f"--dtype={dtype}",
        f"--label={label}",
        f"--rounds={1 if TRIAL.value else 7}",
        *_lap(*TRIAL_LAP if TRIAL.value else LAPS[suite]),
    )
    # PyTorch's compiler takes a minute where ours takes seconds.
    least, most = (60, 240) if peer == "torch_compile" else (30, 150)
    return plan.Entry(f"{name}, {label}", command, least=least, most=most)


def _attention(dtype: str) -> plan.Entry:
    options = ["--trial"] if TRIAL.value else []
    command = _program("benchmark_attention", f"--dtype={dtype}", *options)
    return plan.Entry(f"attention, {dtype}", command)


if __name__ == "__main__":
    main(program)
