"""Programs as from a shell, without the seconds in which Python imports JAX.

One process imports what is slow, and nothing of the project; each program is a fork of
it, with arguments, folder, variables, exit code and what it prints of its own. Where
signals, pipes or the start itself are tested, start a process: `run_for_tests.launch`.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# None of them may start a thread, which no fork has: `bm25s` starts those of JAX.
SLOW = (
    "flax.linen",
    "jax",
    "matplotlib.pyplot",
    "ml_collections.config_flags",
    "optax",
    "orbax.checkpoint",
    "sacrebleu",
    "safetensors.numpy",
    "tensorboardX",
    "transformers",
)


def run(
    module, *arguments, cwd=ROOT, env=(), input=""
) -> subprocess.CompletedProcess[str]:
    """python -m MODULE ARGUMENTS, or python MODULE ARGUMENTS where it is a path.

    env: variables beside those of the tests.
    """
    command = [str(module), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, name) for name in ("in", "out", "err")]
        Path(files[0]).write_text(input, encoding="utf-8")
        asked = {"command": command, "cwd": str(cwd), "env": dict(env), "files": files}
        code = _code_of(json.dumps(asked))
        told = [Path(file).read_text(encoding="utf-8") for file in files[1:]]
    return subprocess.CompletedProcess(command, code, *told)


def _code_of(asked: str) -> int:
    """The exit code of a program, once it has ended."""
    server = _server()
    try:
        server.stdin.write(asked + "\n")
        server.stdin.flush()
        return int(server.stdout.readline())
    except BaseException:  # a time-out, say: the next answer would be that of another
        os.killpg(server.pid, signal.SIGKILL)
        _server.cache_clear()
        raise


@functools.cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.forked"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    atexit.register(server.communicate)  # no more is asked: it ends
    return server


def _serve() -> dict | None:
    """What the fork that this returns in is asked for; None when all are done."""
    for line in sys.stdin:
        asked = json.loads(line)
        with warnings.catch_warnings(action="ignore"):  # JAX has no threads yet
            child = os.fork()
        if not child:
            return asked
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def _become(command, cwd, env, files) -> None:
    """The program: its exit is that of this process."""
    flags = os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2
    for number, (file, flag) in enumerate(zip(files, flags, strict=True)):
        os.dup2(os.open(file, flag), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # nothing of it was read
    os.chdir(cwd)
    os.environ.update(env)
    module, sys.argv = command[0], command
    sys.path[0] = cwd
    sys.path[1:1] = env.get("PYTHONPATH", "").split(":")
    if "/" in module:
        sys.path[0] = os.path.dirname(module)
        runpy.run_path(module, run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for name in SLOW:
        with contextlib.suppress(ImportError):  # the program will say so
            importlib.import_module(name)
    if asked := _serve():
        _become(**asked)
