#!/usr/bin/env bash
# On a CPU one row of int8 or bfloat16 numbers times a matrix first makes all of the
# matrix int32 or float32; with two rows nothing is made wide.
#
# That product is each step of decoding one sequence, and weights are stored in small
# numbers so that such a step reads less. XLA hands products of two rows and more to
# kernels for small numbers. A product of one row it takes for one of a vector, for which
# it has no such kernel: it writes the whole matrix to memory in wide numbers, every time,
# and multiplies those. A step of one sequence reads and writes more with int8 weights
# than with float32 ones, and a second row, of zeros, makes it sooner. No message tells
# so.
#
# Versions: jax 0.10.2 (jaxlib 0.10.2). Rows of 1536 numbers times 1536 x 1536: what the
# compiled program asks for beside its operands, and for information the CPU time of one
# product, the least of 40 laps.
# Output when written (Python 3.11, an AMD Zen 3 with other work beside):
#   int8: one row 9.0 MiB beside, two 0.0; 0.82 and 0.43 ms
#   bfloat16: one row 9.0 MiB beside, two 0.0; 0.89 and 0.64 ms
#   float32: one row 0.0 MiB beside, two 0.0; 0.36 and 0.48 ms
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --quiet --disable-pip-version-check install \
  jax==0.10.2 jaxlib==0.10.2
cat > "$work/show.py" <<'PROGRAM'
import time

import jax
import jax.numpy as jnp
import numpy as np

LAPS, WIDTH = 40, 1536
KINDS = (jnp.int8, jnp.int32), (jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32)


def cost(rows, kind, total):
    """Mebibytes beside the operands, and milliseconds."""
    made = np.random.default_rng(0)
    x = jnp.asarray(made.integers(-9, 10, (rows, WIDTH)), kind)
    weights = jnp.asarray(made.integers(-9, 10, (WIDTH, WIDTH)), kind)
    multiply = jax.jit(lambda x, w: jnp.matmul(x, w, preferred_element_type=total))
    compiled = multiply.lower(x, weights).compile()
    right = np.asarray(x, np.float64) @ np.asarray(weights, np.float64)
    assert (np.asarray(compiled(x, weights)) == right).all()
    laps = []
    for _ in range(LAPS):
        began = time.process_time()
        compiled(x, weights).block_until_ready()
        laps.append(time.process_time() - began)
    beside = compiled.memory_analysis().temp_size_in_bytes
    return beside / 2**20, 1000 * min(laps)


for kind, total in KINDS:
    (one, soon), (two, sooner) = (cost(rows, kind, total) for rows in (1, 2))
    times = f"{soon:.2f} and {sooner:.2f} ms"
    print(f"{kind.__name__}: one row {one:.1f} MiB beside, two {two:.1f}; {times}")
    matrix = 4 * WIDTH**2 / 2**20  # in wide numbers
    assert two < 0.1 and (one < 0.1 if kind is jnp.float32 else one >= matrix)
PROGRAM
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python show.py
