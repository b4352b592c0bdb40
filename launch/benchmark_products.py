"""Times matrix products of the models' sizes, by each order of the weights.

python -m launch.benchmark_products

Writes products.json into --output after every size. PyTorch takes part if installed.
"""

from pathlib import Path

from absl import flags

from ppg_jax.benchmark import products, results
from ppg_jax.launching import main

OUTPUT = flags.DEFINE_string("output", "runs/benchmark", "Where the results go.")


def program():
    facts = {"versions": results.versions(), "machine": results.machine()}
    for shape in products.SHAPES:
        record = products.measure(shape)
        results.add(Path(OUTPUT.value) / "products.json", record | facts)
        told = ", ".join(f"{n} {g:.0f}" for n, g in record["gigaflops"].items())
        print(f"{record['name']}, GFLOP/s: {told}")


if __name__ == "__main__":
    main(program)
