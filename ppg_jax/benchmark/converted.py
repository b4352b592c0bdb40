"""What a peer opens in place of a model folder: made once, and kept beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ppg_jax.files import one_at_a_time


def once(target: Path, module: str, *arguments) -> Path:
    """`target`, a file or a folder; `python -m MODULE ARGUMENTS TARGET` makes it.

    That is a program of its own, so that its memory is not counted as the contestant's.
    Several benchmarks may begin at the same time; one of them makes it.
    """
    with one_at_a_time(target.with_name(f".{target.name}.lock")):
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
