"""What every program under `launch/` shares: flags in, exit codes out.

A program runs as `python -m launch.NAME` in the repository and as `ppg-jax NAME`
wherever the package is installed; `sys.argv[0]` says which, and what it prints follows.
"""

import gc
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging

from ppg_jax.errors import UserError, printable
from ppg_jax.errors import meant as meant

COMMAND = "ppg-jax"
_HELP = {"--help", "-help", "-h", "-?", "--helpshort"}
_HELP_FULL = {"--helpfull", "-helpfull"}


def main(program: Callable[[], int | None]) -> None:
    """Parses the flags and runs `program`; ends the process.

    Exit codes: 0 done, 2 bad input (one line on stderr), 130, 143 and 129 interrupted
    by Ctrl-C, SIGTERM and SIGHUP, 141 when the reader of a pipe went away.
    """

    def guarded(argv):
        if len(argv) > 1:
            fail(f"unexpected argument {argv[1]!r}; every option is a --flag.")
        keep_compiled_programs()
        code = program()
        sys.stdout.flush()  # a pipe that was closed is told of here, or too late
        return code

    logging.set_verbosity(logging.WARNING)  # orbax tells much at INFO
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # "PyTorch was not found"
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    end_at_once(signal.SIGTERM, signal.SIGHUP)
    # Programs are traced from millions of objects that live on: to look through them
    # after every 700 new ones is a twentieth of the start of a chat.
    gc.set_threshold(100_000, 50, 50)
    with exit_codes():
        app.run(guarded, flags_parser=_parse_flags)


_SMALLER = "lower batch_size, or where there are micro_batches raise those."


@contextmanager
def exit_codes():
    """What ends a program early, as `main` promises it."""
    for name in ("stdout", "stderr"):  # None where it is closed: nobody listens
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    try:
        yield
        sys.stdout.flush()
    except UserError as error:
        fail(str(error))
    except BrokenPipeError:
        # Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (FileExistsError, NotADirectoryError) as error:
        fail(f"{error.filename}: a file is in the place of a folder; name another.")
    except OSError as error:
        where = error.filename or "a file, or what this prints to"
        fail(
            f"{where}: {error.strerror or error}. Mend that and run the same command: "
            "what is done stays, and it goes on from there."
        )
    except MemoryError as error:
        fail(f"not enough memory ({error}); {_SMALLER}")
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):  # JAX's, of a device
            raise
        told = str(error).splitlines()[0]
        fail(f"not enough memory on the device ({told:.120}); {_SMALLER}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


_SENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # by people and terminals


def end_at_once(*numbers: int) -> None:
    """These signals, or all of `_SENT`, end the process with a line."""

    def stop(number, frame):
        # No exception: one that is raised within a callback of a library is lost.
        os.write(2, b"interrupted\n")
        os._exit(128 + number)

    for number in numbers or _SENT:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop)


def require_program(command: Sequence[str]) -> None:
    """Ends the process if this is `python -m ppg_jax.NAME` of what is no program."""
    name = next((part for part in command if part.startswith("ppg_jax.")), "")
    file = Path(__file__).parents[1].joinpath(*name.split(".")).with_suffix(".py")
    if name and file.is_file() and "__main__" not in file.read_text("utf-8"):
        print(f"{name} is no program; type: {COMMAND} --help", file=sys.stderr)
        sys.exit(2)


def _parse_flags(argv):
    asked = set(argv[1:])
    if asked & (_HELP | _HELP_FULL):
        print(_help(every_flag=bool(asked & _HELP_FULL)), flush=True)
        sys.exit(0)
    with one_line_errors():
        try:
            return flags.FLAGS(argv)
        except flags.UnrecognizedFlagError as error:
            fail(_unknown(error.flagname))


def _unknown(name: str) -> str:
    """What is said of a flag that is none: those that there are, and of a config."""
    known = [f"--{flag.name}" for flag in own_flags()]
    near = meant(f"--{name}", known)
    told = f"there is no flag --{name}{near}; there are {', '.join(known)}"
    if "config" not in flags.FLAGS:
        return f"{told}."
    return f"{told}, and --config.PART.FIELD, which `{COMMAND} configs NAME` lists."


def _help(every_flag: bool) -> str:
    """The program's docstring and the flags of this project, or all that there are."""
    told = as_called(sys.modules["__main__"].__doc__.strip())
    if every_flag:
        return f"{told}\n\n{flags.FLAGS.get_help()}"
    rows = [_flag_help(flag) for flag in own_flags()]
    return "\n".join([told, "", "Flags:", *rows, "", "All flags: --helpfull."])


def own_flags() -> list[flags.Flag]:
    """Those that the program and its package define, and no library."""
    found: list[flags.Flag] = []
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module == sys.argv[0] or module.startswith("ppg_jax."):
            found += [flag for flag in defined if flag not in found]
    return found


def _flag_help(flag: flags.Flag) -> str:
    allowed = getattr(flag.parser, "enum_values", None)
    kind = " | ".join(allowed) if allowed else flag.flag_type()
    default = f"; default {flag.default_as_str}" if flag.default_as_str else ""
    text = " ".join(flag.help.split())
    text = text.split(">: ", 1)[-1] if allowed else text  # absl's <a|b>:
    told = textwrap.fill(text, 82)
    return f"  --{flag.name}  ({kind}{default})\n{textwrap.indent(told, ' ' * 6)}"


@contextmanager
def one_line_errors():
    """What absl and ml_collections say of a wrong flag or config, as one line."""
    try:
        yield
    except UserError as error:
        fail(str(error))
    except Exception as error:  # of any kind: a config file is the user's
        told = str(error) or type(error).__name__
        if "Traceback" in told:  # of a config file; its last line is the reason
            told = f"{told.splitlines()[0]} {told.strip().splitlines()[-1]}"
        told = " ".join(told.split())
        for said, better in _OF_FLAGS.items():
            told = re.sub(rf"^flag (--\S+?=.*?): {said}.*", rf"\1: {better}", told)
        fail(re.sub("^flag --", "--", told).replace("=None: it is", " is"))


# What libraries say of a flag's value, and what to type instead.
_OF_FLAGS = {
    "Flag .* must have a value other than None": "it is needed; --help tells of it.",
    r"invalid literal for int\(\)": "expected a whole number.",
    "could not convert string to float": "expected a number.",
    r".*Non-boolean argument to boolean flag": "expected true or false.",
    "Failed to parse .* as a ConfigDict": (
        "a part of the config; give one of its fields, as --config.PART.FIELD=VALUE."
    ),
}


def fail(message: str) -> NoReturn:
    """Ends the process: one line on stderr, exit code 2."""
    line = printable(" ".join(as_called(message).split()))
    print(f"{Path(sys.argv[0]).stem}: {line}", file=sys.stderr)
    sys.exit(2)


def as_called(text: str) -> str:
    """`text` with the programs it names as this one was called."""
    if not sys.argv[0].startswith(COMMAND):
        return text
    pieces = re.split(r"python -m launch\.(\w+)", text)
    pieces[1::2] = [f"{COMMAND} {name.replace('_', '-')}" for name in pieces[1::2]]
    return "".join(pieces)


def keep_compiled_programs() -> None:
    """XLA programs are kept between processes: a second start compiles nothing.

    A folder that was chosen for them already, by JAX's own settings, stays.
    """
    import jax  # here, so that a wrong flag is told before a second has passed
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if not jax.config.jax_compilation_cache_dir and (folder := cache_folder()):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # What was compiled before has settled that nothing is kept.
        compilation_cache.reset_cache()


def cache_folder() -> Path | None:
    """Where compiled programs are kept, or None where the user has no home to write."""
    try:
        folder = Path.home() / ".cache" / "ppg_jax" / "xla"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only; no HOME, and a uid without a name
        return None
    return folder if os.access(folder, os.W_OK) else None
