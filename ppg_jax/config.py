"""Frozen dataclasses <-> the mutable `ConfigDict` that absl flags override.

A dataclass says which fields exist, a file under `configs/` what they are, a flag what
this run changes: `--config.persona.batch_size=8`.
"""

import dataclasses
import json
from collections.abc import Collection
from typing import Any, TypeVar, get_type_hints

from ml_collections import ConfigDict

from ppg_jax.errors import UserError

T = TypeVar("T")

DTYPES = ("float32", "bfloat16")  # that a model may compute in


def to_config_dict(config, shared: Collection[str] = ()) -> ConfigDict:
    """A dataclass, nested ones included, as a `ConfigDict` with the same fields.

    shared: fields whose object other parts hold, too. It becomes one `ConfigDict` for
    all of them, so that a flag that overrides `data` does so for every stage that was
    given it. Whatever else is the same object is copied.
    """
    given = [getattr(config, name) for name in shared]
    parts = {id(part): to_config_dict(part) for part in given}

    def convert(node):
        if not dataclasses.is_dataclass(node):
            return node
        if id(node) in parts:
            return parts[id(node)]
        fields = dataclasses.fields(node)
        items = {f.name: convert(getattr(node, f.name)) for f in fields}
        return ConfigDict(items, convert_dict=False)

    return convert(config)


def from_config_dict(cls: type[T], values) -> T:
    """The dataclass `cls` from a (nested) mapping.

    Raises UserError for a field that `cls` does not have or a value it refuses.
    """
    types = get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    arguments: dict[str, Any] = {}
    for name in values:
        if name not in known:
            raise UserError(f"{cls.__name__} has no field {name!r}; it has {known}.")
        value = values[name]
        if dataclasses.is_dataclass(types[name]):
            value = from_config_dict(types[name], value)
        arguments[name] = tuple(value) if isinstance(value, list) else value
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{cls.__module__}.{cls.__name__}: {error}") from error


def require_positive(config, *names: str) -> None:
    """Raises ValueError unless these fields are more than 0."""
    for name in names:
        value = getattr(config, name)
        if not value > 0:  # so that nan is refused, too
            told = f"{name}={value} must be more than 0; give for example {name}=1."
            raise ValueError(told)


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
