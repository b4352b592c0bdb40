"""Times our attention against that of `jax.nn`, by XLA and by cuDNN.

python -m launch.benchmark_attention --dtype=bfloat16

Writes attention.json into --output after every measurement. What a backend does not
support has its error there.
"""

from pathlib import Path

from absl import flags

from ppg_jax.benchmark import attention, results
from ppg_jax.launching import main

DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the arrays.")
TRIAL = flags.DEFINE_bool("trial", False, "Sizes that a CPU does at once.")
OUTPUT = flags.DEFINE_string("output", "runs/benchmark", "Where the results go.")


def program():
    facts = {"versions": results.versions(), "machine": results.machine()}
    for shape in attention.SHAPES:
        shape = attention.small(shape) if TRIAL.value else shape
        for record in attention.measure(shape, DTYPE.value):
            results.add(Path(OUTPUT.value) / "attention.json", record | facts)
            took = f"{record['milliseconds']:.3f} ms" if "error" not in record else "-"
            print(f"{record['name']}: {took}")


if __name__ == "__main__":
    main(program)
