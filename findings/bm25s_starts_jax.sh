#!/usr/bin/env bash
# Importing bm25s starts JAX's backend, whether anything is retrieved with JAX or not.
#
# Where jax is installed, bm25s/selection.py tries out lax.top_k when it is imported. That
# is the first computation of the process: on a GPU it takes hold of the device and of
# its memory, and what has to be said before the first computation comes too late. A
# program that imports bm25s, perhaps through another package, can no longer choose the
# number of CPU devices, and jax.distributed.initialize() refuses, with messages that
# do not name bm25s. Without the import, or with it behind those calls, both work.
#
# Versions: bm25s 0.3.16, jax 0.10.2.
# Output when written (Python 3.11):
#   without bm25s: 2 devices, distributed: True
#   after import bm25s: devices: RuntimeError, distributed: RuntimeError
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --quiet --disable-pip-version-check install \
  bm25s==0.3.16 jax==0.10.2 jaxlib==0.10.2
cat > "$work/show.py" <<'PROGRAM'
import socket
import sys

if sys.argv[1] == "with":
    import bm25s  # noqa: F401

import jax


def outcome(call):
    try:
        return call()
    except RuntimeError as error:
        return type(error).__name__


def initialize():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=1, process_id=0)
    return jax.distributed.is_initialized()


def devices():
    jax.config.update("jax_num_cpu_devices", 2)
    return jax.local_device_count()


# The devices are counted last: that starts the backend, too.
made = outcome(initialize)
print(outcome(devices), made)
PROGRAM
cd "$work"
show() { JAX_PLATFORMS=cpu venv/bin/python show.py "$1" 2>/dev/null; }
without=$(show without) with=$(show with)
echo "without bm25s: ${without% *} devices, distributed: ${without#* }"
echo "after import bm25s: devices: ${with% *}, distributed: ${with#* }"
[ "$without" = "2 True" ] && [ "$with" = "RuntimeError RuntimeError" ]
