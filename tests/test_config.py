"""A config means the same as a dataclass, as a `ConfigDict` and as JSON."""

import dataclasses
import json

import pytest

from configs import quickstart
from ppg_jax.config import (
    flatten,
    from_config_dict,
    require_one_of,
    require_positive,
    to_config_dict,
)
from ppg_jax.errors import UserError
from ppg_jax.experiment import Experiment


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


def test_an_override_reaches_what_is_shared_by_name_and_nothing_else():
    values = to_config_dict(CONFIG, shared=["first"])
    values.first.rate = 7.0
    assert from_config_dict(Outer, values).second == Inner(rate=7.0)
    apart = to_config_dict(CONFIG)
    apart.first.rate = 7.0
    assert from_config_dict(Outer, apart).second == SHARED


def changed(name: str, value) -> set[str]:
    """The fields of the quickstart that an override of this one changes."""
    before, values = (quickstart.get_config() for _ in range(2))
    values.update_from_flattened_dict({name: value})
    before, after = (flatten(from_config_dict(Experiment, v)) for v in (before, values))
    return {name for name in before if before[name] != after[name]}


def test_stages_share_their_data_and_prompts_and_nothing_else():
    rate = "persona.optimizer.learning_rate"
    assert changed(rate, 9.0) == {rate}
    assert changed("persona.model.n_layer", 9) == {"persona.model.n_layer"}
    stages = {f.name for f in dataclasses.fields(Experiment)} - {"data", "prompts"}
    seeds = {"data.seed", *(f"{stage}.data.seed" for stage in stages)}
    assert changed("data.seed", 9) == changed("critic.data.seed", 9) == seeds
    generators = stages - {"critic", "critic_scratch"}
    lengths = {"prompts.max_length", *(f"{n}.prompts.max_length" for n in generators)}
    assert changed("prompts.max_length", 128) == lengths


def test_a_refused_field_is_told_with_what_it_may_be():
    require_positive(Inner(rate=0.1), "rate")
    with pytest.raises(ValueError, match=r"size=0 must be more than 0; .* size=1"):
        require_positive(Outer(size=0), "size")
    require_one_of(Outer(size=4, text="a"), size=(3, 4), text="abc")
    with pytest.raises(ValueError, match=r"text='d' is none of \('a', 'b'\)"):
        require_one_of(Outer(size=4, text="d"), size=(3, 4), text=("a", "b"))


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
