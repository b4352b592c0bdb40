"""What every program under `launch/` shares: flags in, exit codes out."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from absl import app, flags, logging

from ppg_jax.errors import UserError


def main(program: Callable[[], int | None]) -> None:
    """Parses the flags and runs `program`; ends the process.

    Exit codes: 0 done, 2 bad input (one line on stderr), 130 and 143 interrupted by
    Ctrl-C and SIGTERM, 141 when the reader of a pipe went away.
    """

    def guarded(argv):
        if len(argv) > 1:
            _fail(f"unexpected argument {argv[1]!r}; every option is a --flag.")
        try:
            return program()
        except UserError as error:
            _fail(str(error))
        except BrokenPipeError:
            # Python would complain once more when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)

    logging.set_verbosity(logging.WARNING)  # orbax tells much at INFO
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # "PyTorch was not found"
    _cache_compiled_programs()
    try:
        app.run(guarded, flags_parser=_parse_flags)
    except UserError as error:
        _fail(str(error))


def _parse_flags(argv):
    with one_line_errors():
        return flags.FLAGS(argv)


@contextmanager
def one_line_errors():
    """What absl and ml_collections say of a wrong flag or config, as one line."""
    try:
        yield
    except OSError as error:
        _fail(f"{' '.join(str(error).split())}; configs/ has the presets.")
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        told = str(error)
        if "Traceback" in told:  # of a config file; its last line is the reason
            told = f"{told.splitlines()[0]} {told.strip().splitlines()[-1]}"
        _fail(" ".join(told.split()))


def _fail(message: str) -> None:
    print(f"{Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
    sys.exit(2)


def _cache_compiled_programs() -> None:
    """XLA programs are kept between runs, so that a second start compiles nothing."""
    import jax  # here, so that a wrong flag is told before a second has passed

    cache = Path.home() / ".cache" / "ppg_jax" / "xla"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
