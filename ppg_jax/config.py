"""Frozen dataclasses <-> the mutable `ConfigDict` that absl flags override.

A dataclass says which fields exist, a file under `configs/` what they are, a flag what
this run changes: `--config.persona.batch_size=8`.
"""

import dataclasses
import json
from typing import Any, TypeVar, get_type_hints

from ml_collections import ConfigDict

from ppg_jax.errors import UserError

T = TypeVar("T")

DTYPES = ("float32", "bfloat16")  # that a model may compute in


def to_config_dict(config) -> ConfigDict:
    """A dataclass, nested ones included, as a `ConfigDict` with the same fields.

    Nested dataclasses that are the same object become one shared `ConfigDict`, so that
    a flag that overrides `data` does so for every stage that was given it.
    """
    shared: dict[int, ConfigDict] = {}

    def convert(node):
        if not dataclasses.is_dataclass(node):
            return node
        if id(node) not in shared:
            fields = dataclasses.fields(node)
            items = {f.name: convert(getattr(node, f.name)) for f in fields}
            shared[id(node)] = ConfigDict(items, convert_dict=False)
        return shared[id(node)]

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
    """Raises ValueError unless these fields are 1 or more."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name}={getattr(config, name)} must be 1 or more.")


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
