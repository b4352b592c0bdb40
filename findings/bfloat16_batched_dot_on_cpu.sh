#!/usr/bin/env bash
# XLA for CPUs multiplies matrices of bfloat16 with a float32 result, but no batches.
#
# jnp.einsum("rd,df->rf", a, b, preferred_element_type=float32) of two bfloat16 matrices
# runs, compiled, and on a CPU with avx512_bf16 faster than the same in float32. With one
# axis more in front of all three, as attention has them, the very same request is
# refused when the program is compiled: UNIMPLEMENTED, "Unsupported element type for
# DotThunk". Eagerly and under jit alike; casting the operands to float32 first is the
# way round. So a library that turns products into bfloat16 ones has to look at their
# rank on this platform.
#
# Versions: jax and jaxlib 0.10.2; x86-64 CPU with avx512_bf16.
# Output when written (Python 3.11):
#   CPU with avx512_bf16: yes
#   matrices: right
#   batches of matrices: UNIMPLEMENTED: Unsupported element type for DotThunk
# Exit status: 0 if this is what happens, 1 if the behaviour has changed, 2 on a CPU
# without avx512_bf16.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip install jax==0.10.2 jaxlib==0.10.2
cat > "$work/show.py" <<'PROGRAM'
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

has = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
print("CPU with avx512_bf16:", "yes" if has else "no")
if not has:
    sys.exit(2)


def multiply(spec, *shapes):
    """What XLA makes of the product of two arrays of ones: "right", or its error."""
    ones = [jnp.ones(shape, jnp.bfloat16) for shape in shapes]
    run = jax.jit(lambda a, b: jnp.einsum(spec, a, b, preferred_element_type="float32"))
    try:
        y = run(*ones)
    except Exception as error:
        found = re.search(r"(\w+): .*?(Unsupported element type for DotThunk)", str(error))
        return ": ".join(found.groups()) if found else str(error).splitlines()[0]
    right = y.dtype == jnp.float32 and (np.asarray(y) == shapes[0][-1]).all()
    return "right" if right else "wrong"


one = multiply("rd,df->rf", (256, 64), (64, 128))
several = multiply("nrd,ndf->nrf", (3, 256, 64), (3, 64, 128))
print("matrices:", one)
print("batches of matrices:", several)
sys.exit(0 if one == "right" and "DotThunk" in several else 1)
PROGRAM
JAX_PLATFORMS=cpu "$work/venv/bin/python" "$work/show.py" 2> "$work/log" || {
  status=$?
  tail -5 "$work/log"
  exit "$status"
}
