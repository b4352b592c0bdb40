"""`ppg-jax COMMAND --flag=value ...`: the programs of launch/, wherever they lie.

A command is the program `python -m launch.COMMAND` with the same flags (of prepare-data
`launch.prepare_data`). `configs` alone has no program: it tells what there is to
configure.
"""

import ast
import shlex
import sys
import textwrap
from collections.abc import Sequence
from importlib import util
from pathlib import Path

import ppg_jax
from ppg_jax import presets
from ppg_jax.assets import carried
from ppg_jax.launching import COMMAND, end_at_once, exit_codes, fail, meant

PROGRAMS = (
    "train",
    "evaluate",
    "reproduce",
    "generate",
    "chat",
    "export",
    "prepare-data",
    "benchmark",
)
_CONFIGS = "Lists the presets; `configs NAME` every field of one, as flags"
_WIDTH = 88
_HELP = ("--help", "-help", "-h", "help")


def main() -> None:
    """Runs what the command line asks for; exit codes as of `launching.main`."""
    end_at_once()  # what a program imports takes seconds
    arguments, sys.argv[0] = sys.argv[1:], COMMAND
    with exit_codes():
        _run(*arguments)


def _run(name: str = "", *rest: str) -> None:
    if name in PROGRAMS:
        run_program(name, rest)
    elif name == "configs":
        _configs(rest)
    elif name in _HELP:
        print(usage())
    elif name == "--version":
        print(f"{COMMAND} {ppg_jax.__version__}")
    elif name:
        known = (*PROGRAMS, "configs")
        fail(f"no command {name!r}{meant(name, known)}; there are {', '.join(known)}.")
    else:
        print(usage(), file=sys.stderr)
        sys.exit(2)


def usage() -> str:
    """All commands with a line each."""
    rows = {name: _first_line(program(name)) for name in PROGRAMS}
    rows["configs"] = _CONFIGS
    width = max(map(len, rows))
    return "\n".join(
        [
            f"usage: {COMMAND} COMMAND [--flag=value ...]",
            "",
            *(f"  {name:{width}}  {told}" for name, told in rows.items()),
            "",
            f"{COMMAND} COMMAND --help tells the flags of one, {COMMAND} --version the "
            "version.",
        ]
    )


def program(name: str) -> Path:
    """The file of a command's program."""
    return carried("launch") / f"{name.replace('-', '_')}.py"


def run_program(name: str, arguments: Sequence[str]) -> None:
    """Runs a program as `python -m launch.NAME` does, in this process."""
    sys.argv = [f"{COMMAND} {name}", *arguments]
    spec = util.spec_from_file_location("__main__", program(name))
    # absl takes the flags and the docstring of the module of this name.
    sys.modules["__main__"] = module = util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _first_line(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    line = (ast.get_docstring(tree) or "").partition("\n")[0]
    return line.partition(": python -m launch")[0].rstrip(".")


def _configs(arguments: Sequence[str]) -> None:
    sys.argv[0] = f"{COMMAND} configs"
    if any(argument in _HELP for argument in arguments):
        print(f"usage: {COMMAND} configs [NAME or FILE]\n\n{_CONFIGS}")
    elif len(arguments) > 1:
        fail(f"one config at a time; {arguments[1]!r} is one too many.")
    elif arguments:
        print_fields(presets.config_file(arguments[0]))
    else:
        width = max(map(len, presets.known()))
        for name, path in presets.known().items():
            print(f"{name:{width}}  {_first_line(path)}")


def print_fields(path: Path) -> None:
    """Every field of a config: its flag with its value, type, default and meaning."""
    for shown in presets.settings(presets.load(path)):
        if isinstance(shown, presets.Part):
            print("\n" + textwrap.fill(f"{shown.name}: {shown.doc}", _WIDTH))
            continue
        default = f", default {shown.default}" if shown.default else ""
        kind = f"({shown.type}{default})"
        print(f"  --config.{shown.name}={_as_typed(shown.value)}  {kind}")
        if shown.doc:
            print(textwrap.indent(textwrap.fill(shown.doc, _WIDTH - 6), " " * 6))


def _as_typed(value) -> str:
    """A value as a shell takes it."""
    text = value if isinstance(value, str) else repr(value)
    plain = not set(text) & set('"$`\\!')
    return f'"{text}"' if plain and "'" in text else shlex.quote(text)


if __name__ == "__main__":
    main()
