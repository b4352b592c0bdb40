"""A config means the same as a dataclass, as a `ConfigDict` and as JSON."""

import dataclasses
import json

import pytest

from ppg_jax.config import flatten, from_config_dict, to_config_dict
from ppg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")

    def __post_init__(self):
        if self.rate <= 0:
            raise ValueError(f"rate={self.rate} must be > 0.")


@dataclasses.dataclass(frozen=True)
class Outer:
    size: int
    first: Inner = Inner()
    second: Inner = Inner(rate=2.0)
    text: str = ""


SHARED = Inner(rate=3.0)
CONFIG = Outer(size=4, first=SHARED, second=SHARED)


def test_there_and_back_is_the_same_dataclass():
    assert from_config_dict(Outer, to_config_dict(CONFIG)) == CONFIG


def test_an_override_of_one_shared_part_reaches_all_that_share_it():
    values = to_config_dict(CONFIG)
    values.first.rate = 7.0
    assert from_config_dict(Outer, values).second == Inner(rate=7.0)
    apart = to_config_dict(Outer(size=4))
    apart.first.rate = 7.0
    assert from_config_dict(Outer, apart).second == Inner(rate=2.0)


def test_an_override_of_another_type_is_refused():
    with pytest.raises(TypeError, match="rate"):
        to_config_dict(CONFIG).first.rate = "fast"


def test_an_unknown_field_is_refused_with_those_that_there_are():
    with pytest.raises(UserError, match=r"Inner has no field 'rat'; it has .*'rate'"):
        from_config_dict(Outer, {"size": 1, "first": {"rat": 1.0}})


def test_a_refused_value_names_the_dataclass_and_the_reason():
    with pytest.raises(UserError, match=r"Inner: rate=-1\.0 must be > 0"):
        from_config_dict(Outer, {"size": 1, "second": {"rate": -1.0}})
    with pytest.raises(UserError, match=r"Outer: .*size"):
        from_config_dict(Outer, {"text": "no size"})


def test_the_input_is_not_changed_by_reading_it():
    values = to_config_dict(CONFIG)
    before = values.to_dict()
    from_config_dict(Outer, values)
    assert values.to_dict() == before


def test_flat_names_survive_json():
    flat = flatten(CONFIG)
    assert flat == {
        "size": 4,
        "first.rate": 3.0,
        "first.names": ["a", "b"],
        "second.rate": 3.0,
        "second.names": ["a", "b"],
        "text": "",
    }
    assert json.loads(json.dumps(flat)) == flat
