"""Frozen dataclasses <-> the mutable `ConfigDict` that absl flags override.

A dataclass says which fields exist, a file under `configs/` what they are, a flag what
this run changes: `--config.persona.batch_size=8`.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from ppg_jax.errors import UserError, meant

T = TypeVar("T")

DTYPES = ("float32", "bfloat16")  # that a model may compute in


class Section(ConfigDict):
    """A dataclass or a mapping as flags change it, which remembers what it is of.

    made_of: the class. order: of the fields; a `ConfigDict` sorts them.
    """

    def __init__(self, fields: Mapping[str, Any], made_of: type):
        super().__init__(fields, convert_dict=False)
        object.__setattr__(self, "made_of", made_of)
        object.__setattr__(self, "order", tuple(fields))


def to_config_dict(config, shared: Iterable = ()) -> ConfigDict:
    """A dataclass or a mapping, nested ones included, with the same fields.

    shared: objects that several parts hold. Each becomes one `Section` for all of them,
    so that a flag that overrides `data` does so for every stage that was given it.
    Whatever else is the same object is copied.
    """
    parts = {id(part): to_config_dict(part) for part in shared}

    def convert(node):
        if id(node) in parts:
            return parts[id(node)]
        if isinstance(node, Mapping):
            items = {name: convert(value) for name, value in node.items()}
            return Section(items, dict)
        if dataclasses.is_dataclass(node):
            fields = [field.name for field in dataclasses.fields(node)]
            items = {name: convert(getattr(node, name)) for name in fields}
            return Section(items, type(node))
        return node

    return convert(config)


def from_config_dict(cls: type[T], values, where: str = "", typed: str = "") -> T:
    """The dataclass `cls` from a (nested) mapping.

    where: what flags call it ("persona.optimizer"); typed: what stands before a field
    where it is typed, if that is no `--config.` ("--", or nothing from Python). Raises
    UserError for a field that `cls` does not have, a value of another type, or one that
    it refuses.
    """
    typed = f"--config.{where}." if where else typed
    kinds = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    arguments: dict[str, Any] = {}
    for name in values:
        if name not in known:
            told = f"{typed}{name}: no such field{meant(str(name), known)}"
            raise UserError(f"{told}; there are {', '.join(known)}.")
        value, below = values[name], where and f"{where}.{name}"
        section = isinstance(value, Section)
        if section or dataclasses.is_dataclass(kinds[name]):
            made_of = value.made_of if section else kinds[name]
            value = from_config_dict(made_of, value, below, f"{typed}{name}.")
        elif expected := _misfit(kinds[name], value):
            raise UserError(f"{typed}{name}={value!r}: expected {expected}.")
        arguments[name] = tuple(value) if isinstance(value, list) else value
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{typed}{name}={value} must be a finite number.")
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        told = f"--config.{where}: " if where else typed
        raise UserError(f"{told}{error}") from error


def _misfit(kind, value) -> str:
    """What a field of this type asks for, if the value is not of it."""
    if isinstance(kind, types.UnionType):
        told = [_misfit(each, value) for each in typing.get_args(kind)]
        return "" if "" in told else " or ".join(told)
    number = type(value) in (int, float)
    fits, expected = {
        int: (type(value) is int and abs(value) < 2**31, "a whole number below 2^31"),
        float: (number and abs(value) < math.inf, "a finite number"),
        bool: (type(value) is bool, "true or false"),
        str: (type(value) is str, "a text"),
        types.NoneType: (value is None, "nothing"),
    }.get(kind, (True, ""))
    return "" if fits else expected


def from_section(section: Section, where: str = ""):
    """The dataclass that a section was made of, as `from_config_dict`."""
    return from_config_dict(section.made_of, section, where)


def require_positive(config, *names: str) -> None:
    """Raises ValueError unless these fields are more than 0."""
    for name in names:
        value = getattr(config, name)
        if not value > 0:  # so that nan is refused, too
            told = f"{name}={value} must be more than 0; give for example {name}=1."
            raise ValueError(told)


def require_count(config, *names: str) -> None:
    """Raises ValueError unless these fields are 0 or more; 0 is all, or off."""
    for name in names:
        if not getattr(config, name) >= 0:
            raise ValueError(f"{name}={getattr(config, name)} must be 0 or more.")


def require_one_of(config, **known: Collection) -> None:
    """Raises ValueError unless each of these fields has one of its known values."""
    for name, values in known.items():
        if getattr(config, name) not in values:
            told = f"{name}={getattr(config, name)!r} is none of {tuple(values)}."
            raise ValueError(told)


def flatten(config, prefix: str = "") -> dict[str, Any]:
    """A dataclass as `{"optimizer.learning_rate": 1e-3, ...}`, ready for JSON."""
    flat = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{field.name}.")
        else:
            flat[prefix + field.name] = json.loads(json.dumps(value))
    return flat


# Fields that are younger than runs that are still of use, and what those runs did.
YOUNGER = {
    "exposure.persona": "",
    "exposure.share": 1.0,
    "exposure.contrast": 0.0,
    "training_dialogues": 0,
    "half": "",
    "held_out": "",
}
# Of a stage: what comes after the updates that it has done, not what these were. More
# of LONGER is possible where the learning rate does not depend on it.
LATER, LONGER = ("evaluate_every", "patience"), ("epochs", "updates")
# Of an evaluation: how its report looks, and how many are answered at once.
OF_ANSWERS = ("title", "paper", "batch_size")


def changes(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, list]:
    """{field: [was, is]} of what may change in a stage that has not finished, or in an
    evaluation.

    theirs, ours: flat, what it was begun with and what is asked for now. Nothing may
    where alphas are tried: which one an update belongs to depends on all of them.
    """
    if "alphas" in theirs:
        return {}
    if theirs.get("name") == "evaluate":
        known = {name: [theirs.get(name), ours.get(name)] for name in OF_ANSWERS}
        return {name: pair for name, pair in known.items() if pair[0] != pair[1]}
    schedules = {settings.get("optimizer.schedule") for settings in (theirs, ours)}
    return {
        name: [theirs[name], ours[name]]
        for name in (*LATER, *LONGER)
        if name in ours.keys() & theirs.keys()
        and ours[name] != theirs[name]
        and (name in LATER or schedules == {"constant"})
        and (name in LATER or ours[name] > theirs[name] > 0)
    }


def field_names(values: ConfigDict, prefix: str = "") -> list[str]:
    """All that a flag can set, as "optimizer.learning_rate"; parts of a config, too."""
    names = []
    for name in values:
        names.append(prefix + name)
        if isinstance(values[name], ConfigDict):
            names += field_names(values[name], f"{prefix}{name}.")
    return names
