#!/usr/bin/env bash
# OpenVINO leaves the thread that compiled a model with a signal stack that is no more.
#
# A model that is compiled for CPUs gives its thread an alternate stack for signals
# (sigaltstack), and takes it away when it is dropped. Where two models of two cores
# are there at a time, whichever goes first, the stack that is set in the end is one
# whose memory was unmapped with its model, and what is compiled and dropped later
# leaves it so. Handlers that Python sets (signal.signal; Ctrl-C) are to run on the
# alternate stack of their thread if there is one. The kernel cannot put such a signal
# there and ends the process instead (SIGSEGV, and faulthandler, which needs a stack
# too, says nothing): a program that saves its work on SIGTERM loses it, if it has ever
# compared two models in OpenVINO. One model at a time, in one core, leaves no stack.
#
# Versions: openvino 2026.4.1, numpy 2.2.6. Linux, x86-64. No signal is sent here.
# Output when written (Python 3.11):
#   one model, dropped: no signal stack
#   two models, one dropped: a signal stack in mapped memory
#   two models, both dropped: a signal stack in unmapped memory
#   one more model, dropped: a signal stack in unmapped memory
# Exit status: 0 if this is what happens, 1 if the behaviour has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --quiet --disable-pip-version-check install \
  openvino==2026.4.1 numpy==2.2.6
cat > "$work/show.py" <<'PROGRAM'
import ctypes
import gc
import pathlib
import sys

sys.modules["openvino_telemetry"] = None  # it would tell its maker of this over the net
import numpy as np
import openvino
from openvino import opset13 as ops


class Stack(ctypes.Structure):
    _fields_ = [
        ("start", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    ]


def signal_stack() -> str:
    gc.collect()
    stack = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    if not stack.start:
        return "no signal stack"
    lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    mapped = any(first <= stack.start < last for first, last in ranges)
    return f"a signal stack in {'mapped' if mapped else 'unmapped'} memory"


def compiled():
    asked = ops.parameter([-1, 8], np.float32)
    made = ops.matmul(asked, ops.constant(np.ones((8, 8), np.float32)), False, False)
    core = openvino.Core()
    return core, core.compile_model(openvino.Model([made], [asked]), "CPU")


seen = {}
one = compiled()
del one
seen["one model, dropped"] = signal_stack()
one, two = compiled(), compiled()
del one
seen["two models, one dropped"] = signal_stack()
del two
seen["two models, both dropped"] = signal_stack()
one = compiled()
del one
seen["one more model, dropped"] = signal_stack()
for when, found in seen.items():
    print(f"{when}: {found}", flush=True)
mapped, unmapped = (f"a signal stack in {kind} memory" for kind in ("mapped", "unmapped"))
expected = ["no signal stack", mapped, unmapped, unmapped]
sys.exit(0 if list(seen.values()) == expected else 1)
PROGRAM
"$work/venv/bin/python" "$work/show.py" 2> "$work/log" || { tail -5 "$work/log"; exit 1; }
