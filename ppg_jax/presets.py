"""Configs by name: the presets, --config and --workdir, and what there is to set.

A config is a file with `get_config()`, which returns a `config.Section`. The presets
are those of configs/, and travel with the package.
"""

import ast
import contextlib
import dataclasses
import difflib
import functools
import inspect
import io
import re
import sys
import textwrap
import tokenize
import traceback
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from ppg_jax.assets import carried
from ppg_jax.config import field_names
from ppg_jax.errors import UserError, meant
from ppg_jax.launching import one_line_errors


def known() -> dict[str, Path]:
    """Name -> file, of the configs that the package carries."""
    files = sorted(carried("configs").glob("*.py"))
    return {p.stem: p for p in files if "def get_config(" in p.read_text("utf-8")}


def config_file(name: str) -> Path:
    """The file of a preset's name, or of a path; UserError lists what there is."""
    files = known()
    if name in files:
        return files[name]
    if Path(name).is_file():
        return Path(name)
    there = ", ".join(files)
    raise UserError(
        f"no config {name!r}{meant(name, files)}; there are {there}, or give the path "
        "of a file with get_config()."
    )


def define_flags() -> None:
    """--config and --workdir."""
    with one_line_errors():  # overrides are read from the command line here already
        config = config_flags.DEFINE_config_file(
            "config",
            None,
            "An experiment: a file, or the name of a preset (`ppg-jax configs`); "
            "--config.FIELD=VALUE changes it.",
        )
        parser = flags.FLAGS["config"].parser
        parser.parse = functools.partial(_read, parser.parse)
        flags.set_default(config, "quickstart")
    flags.DEFINE_string(
        "workdir", None, "The run directory; runs/NAME of the config if not given."
    )


def from_flags() -> tuple[ConfigDict, Path]:
    """The config with its overrides, and the run directory."""
    config = flags.FLAGS["config"]
    name, workdir = Path(config.config_filename).stem, flags.FLAGS.workdir
    if workdir == "":  # of a shell's variable that is not set
        raise UserError("--workdir is empty; give a folder, or nothing.")
    return config.value, Path(workdir or f"runs/{name}")


def _read(parse, name: str) -> ConfigDict:
    """What a preset or a file holds; UserError if a flag changes what it has not."""
    path = config_file(name)
    load(path)  # says in one line what is wrong with it
    values = parse(str(path))
    fields = field_names(values)
    for argument in sys.argv[1:]:
        found = re.match(r"--?(?:no)?config\.([^=[]+)", argument)
        if found and found[1] not in fields:
            raise UserError(
                f"--config.{found[1]}: {name} has no such field"
                f"{_meant(found[1], fields)}; `ppg-jax configs {name}` lists all."
            )
    return values


def _meant(field: str, fields: list[str]) -> str:
    """A field of the same name in the same part of the config, or one near it."""
    *within, name = field.split(".")
    part = within[0] if within else ""
    ends = {k.split(".")[-1]: k for k in reversed(fields) if k.split(".")[0] == part}
    short = {"".join(word[:1] for word in k.split("_")): k for k in ends}
    near = [short.get(name), *difflib.get_close_matches(name, ends, n=1)]
    if found := next(filter(None, near), None):
        return f" (did you mean --config.{ends[found]}?)"
    owners = [k.split(".")[0] for k in fields if k.split(".")[1:] == [name]]
    if owners and not within:
        return f" (did you mean --config.{owners[0]}.{name}, or that of another part?)"
    return meant(f"config.{field}", [f"--config.{k}" for k in fields])


class Part(NamedTuple):
    """A dataclass in a config, and what it says of itself."""

    name: str  # as in a flag: "persona.optimizer"
    doc: str


class Setting(NamedTuple):
    """One field of a config, and what its dataclass says of it."""

    name: str  # as in a flag: "persona.optimizer.b1"
    value: Any
    type: str
    default: str  # "" where it has none
    doc: str


def load(path: Path):
    """The `config.Section` of a file; UserError in one line if it gives none."""
    if path.suffix != ".py":
        raise UserError(f"{path}: no config; give a .py file with get_config().")
    spec = util.spec_from_file_location("ppg_jax_config", path)
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass in it looks for itself there
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except (Exception, SystemExit) as error:  # of any kind: the file is the user's
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = ":".join(map(str, [path, *lines[-1:]]))
        told = " ".join(str(error).split()).removesuffix(".")
        raise UserError(f"{where}: {type(error).__name__}: {told}.") from None
    if not hasattr(config, "made_of"):
        told = "is not what ppg_jax.experiment.config_dict returns"
        raise UserError(f"{path}: get_config() gives a config that {told}.")
    return config


def settings(config) -> list[Part | Setting]:
    """The fields of a `config.Section` and of those in it; shared ones once, first."""
    shown: set[int] = set()

    def walk(section, prefix: str) -> Iterator[Part | Setting]:
        shown.add(id(section))
        doc, docs = documentation(section.made_of)
        if doc:
            yield Part(prefix.rstrip("."), doc)
        fields = getattr(section.made_of, "__dataclass_fields__", {})
        # The rows, many fields of few kinds, come last.
        for name in sorted(section.order, key=lambda name: name == "systems"):
            value = section[name]
            if not hasattr(value, "made_of"):
                kind, default = _typed(fields.get(name), value)
                yield Setting(prefix + name, value, kind, default, docs.get(name, ""))
            elif id(value) not in shown:
                yield from walk(value, f"{prefix}{name}.")

    return list(walk(config, ""))


def _typed(field, value) -> tuple[str, str]:
    if field is None:
        return type(value).__name__, ""
    kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    if "[" in str(field.type):
        kind = str(field.type)
    missing = field.default is dataclasses.MISSING
    return kind, "" if missing else repr(field.default)


def documentation(cls: type) -> tuple[str, dict[str, str]]:
    """What a dataclass says: of itself, and of each field there and behind it."""
    if not dataclasses.is_dataclass(cls):
        return "", {}
    names = [field.name for field in dataclasses.fields(cls)]
    doc, docs = _of_docstring(inspect.getdoc(cls) or "", names)
    with contextlib.suppress(OSError, TypeError):  # of a config file: no source
        for name, comment in _comments(inspect.getsource(cls), names).items():
            docs[name] = "; ".join(filter(None, [docs.get(name), comment]))
    return doc, docs


def _of_docstring(text: str, names: list[str]) -> tuple[str, dict[str, str]]:
    """The passages "name: text" and "name, other: text" of each paragraph, and the
    text before them.
    """
    known = "|".join(map(re.escape, names))
    heading = re.compile(rf"(?:^|(?<=[.;)] ))((?:{known})(?:, (?:{known}))*): ")
    before, docs = [], {}
    for paragraph in text.split("\n\n"):
        pieces = heading.split(" ".join(paragraph.split()))
        for heads, passage in zip(pieces[1::2], pieces[2::2], strict=True):
            docs |= dict.fromkeys(heads.split(", "), passage.strip())
        before.append(pieces[0].strip())
    return " ".join(filter(None, before)), docs


def _comments(source: str, names: list[str]) -> dict[str, str]:
    """The comment behind each field."""
    tokens = tokenize.generate_tokens(io.StringIO(textwrap.dedent(source)).readline)
    behind = {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}
    body = ast.parse(textwrap.dedent(source)).body[0].body
    fields = [node for node in body if isinstance(node, ast.AnnAssign)]
    lines = {node.target.id: node.end_lineno for node in fields}
    return {
        name: behind[lines[name]].lstrip("# ")
        for name in names
        if lines.get(name) in behind
    }
