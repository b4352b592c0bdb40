"""What a peer opens in place of a model folder: made once, and kept beside it."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path


def once(target: Path, module: str, *arguments) -> Path:
    """`target`, a file or a folder; `python -m MODULE ARGUMENTS TARGET` makes it.

    That is a program of its own, so that its memory is not counted as the contestant's.
    Several benchmarks may begin at the same time; one of them makes it.
    """
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            begun = target.with_name(f".{target.name}.begun")
            if begun.is_dir():  # what a kill left
                shutil.rmtree(begun)
            program = [sys.executable, "-W", "ignore", "-m", module]
            command = [*program, *map(str, arguments), str(begun)]
            # OpenVINO's tracing ends in a crash under another allocator than glibc's.
            plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=plain)
            begun.rename(target)
    return target
