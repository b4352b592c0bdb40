#!/usr/bin/env bash
# A run that Orbax restores compiles its steps again, and finds none of them in JAX's
# compile cache.
#
# On one device, arrays that a program makes from numbers are bound to no device
# ("uncommitted"), and so is what a jitted step returns. Orbax gives an array back with
# the sharding that it had when it was saved, which binds it. JAX writes the sharding of
# what is bound into the program, so a step of restored arrays is another program than
# the same step of the arrays that were saved: jit compiles it anew, and the compile
# cache on disk, which is there so that a second start need not compile, has no entry
# for it. Only the third start finds one. What is told to be restored as NumPy's arrays
# is bound to nothing, and the first program serves.
#
# Versions: jax 0.10.2 (jaxlib 0.10.2), orbax-checkpoint 0.12.8. One CPU device.
# Output when written (Python 3.11):
#   saved: bound False, programs 1, on disk 1
#   restored as jax.Array: bound True, programs 2, on disk 2
#   restored as numpy.ndarray: bound False, programs 2, on disk 2
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --quiet --disable-pip-version-check install \
  jax==0.10.2 jaxlib==0.10.2 orbax-checkpoint==0.12.8
cat > "$work/show.py" <<'PROGRAM'
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

folder = pathlib.Path.cwd()
jax.config.update("jax_compilation_cache_dir", str(folder / "cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@jax.jit
def step_of_training(params):
    return jax.tree.map(lambda a: a - 1e-3 * (a @ a), params)


def told(name, params):
    params = jax.tree.map(jnp.asarray, params)
    bound = params["w"].committed
    step_of_training(params)
    written = len([*folder.glob("cache/jit_step_of_training-*-cache")])
    print(f"{name}: bound {bound}, programs {step_of_training._cache_size()}, ", end="")
    print(f"on disk {written}")
    return bound, step_of_training._cache_size(), written


params = step_of_training({"w": jnp.ones((64, 64))})
seen = [told("saved", params)]
checkpointer = ocp.StandardCheckpointer()
checkpointer.save(folder / "checkpoint", params)
checkpointer.wait_until_finished()
for like in (params, jax.tree.map(np.asarray, params)):
    restored = checkpointer.restore(folder / "checkpoint", like)
    assert (np.asarray(restored["w"]) == np.asarray(params["w"])).all()
    kind = "jax.Array" if like is params else "numpy.ndarray"
    seen.append(told(f"restored as {kind}", restored))
assert seen == [(False, 1, 1), (True, 2, 2), (False, 2, 2)]
PROGRAM
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python show.py
