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
from pathlib import Path

from absl import flags

from ppg_jax.benchmark import plan, results
from ppg_jax.benchmark.gpu_plan import GpuPlan
from ppg_jax.launching import fail, main

SOURCE = flags.DEFINE_string("source", "persona_world", "Of the dialogues.")
GPT2_TOKENIZER = flags.DEFINE_string("gpt2_tokenizer", "gpt2", "A folder or hub id.")
BERT_TOKENIZER = flags.DEFINE_string(
    "bert_tokenizer", "distilbert-base-uncased", "A folder or hub id."
)
BUDGET = flags.DEFINE_float("budget", 540, "Seconds for all of it.", 1)
TRIAL = flags.DEFINE_bool("trial", False, "The same plan in a size for a CPU.")
OUTPUT = flags.DEFINE_string("output", "runs/benchmark_gpu", "Where the results go.")
MODELS = flags.DEFINE_string("models", "runs/models", "Where the models go.")


def program():
    # Contestants share the device: none may take all of its memory at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    facts = {"versions": results.versions(), "machine": results.machine()}
    facts["gpu"] = facts["machine"]["platform"] == "gpu"
    torch = importlib.util.find_spec("torch") is not None
    facts["peer"] = "torch" if torch else None
    if not facts["gpu"] and not TRIAL.value:
        hint = "JAX has no CUDA: " if shutil.which("nvidia-smi") else ""
        fail(f"{hint}no GPU is in use; give --trial to try it on this CPU.")
    if not torch:
        print("PyTorch is not installed; ours runs alone.", file=sys.stderr)
    # A program that one race has compiled is not compiled again by another.
    cache = Path("runs/xla_gpu").absolute()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    path = Path(OUTPUT.value) / "plan.json"
    entries = GpuPlan(
        source=SOURCE.value,
        gpt2_tokenizer=GPT2_TOKENIZER.value,
        bert_tokenizer=BERT_TOKENIZER.value,
        output=OUTPUT.value,
        models=MODELS.value,
        torch=torch,
        trial=TRIAL.value,
    ).entries()
    made = plan.run_plan(list(entries), BUDGET.value, path, facts)
    states = [entry["status"] for entry in made["entries"]]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    print(f"{path}: {counts}")


if __name__ == "__main__":
    main(program)
