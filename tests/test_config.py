"""A config means the same as a dataclass, as a `ConfigDict` and as JSON."""

import dataclasses
import importlib
import json
import math
import re
from pathlib import Path

import pytest

from configs import personachat_smollm2, quickstart
from ppg_jax.config import (
    flatten,
    from_config_dict,
    require_one_of,
    require_positive,
    to_config_dict,
)
from ppg_jax.errors import UserError
from ppg_jax.experiment import Experiment, require_finished
from ppg_jax.experiment import from_config_dict as read_experiment
from ppg_jax.report.paper import SHOWN
from ppg_jax.systems.generators import Generators

ROOT = Path(__file__).resolve().parents[1]


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
    values = to_config_dict(CONFIG, shared=[SHARED])
    values.first.rate = 7.0
    assert from_config_dict(Outer, values).second == Inner(rate=7.0)
    apart = to_config_dict(CONFIG)
    apart.first.rate = 7.0
    assert from_config_dict(Outer, apart).second == SHARED


def changed(name: str, value) -> set[str]:
    """The fields of the quickstart that an override of this one changes."""
    before, values = (quickstart.get_config() for _ in range(2))
    values.update_from_flattened_dict({name: value})
    before, after = map(parts_of, (before, values))
    return {name for name in before if before[name] != after[name]}


def parts_of(values) -> dict:
    """Every field of every part of a config, by the name that a flag gives it."""
    made = read_experiment(values)
    parts = {stage.name: stage for stage in made.stages}
    parts |= {f"systems.{name}": row for name, row in made.systems.items()}
    parts |= {n: getattr(made, n) for n in ("data", "prompts", "evaluate")}
    return {
        k: v for n, part in parts.items() for k, v in flatten(part, f"{n}.").items()
    }


def test_stages_share_their_data_and_prompts_and_nothing_else():
    rate = "persona.optimizer.learning_rate"
    assert changed(rate, 9.0) == {rate}
    assert changed("persona.model.n_layer", 9) == {"persona.model.n_layer"}
    made = read_experiment(quickstart.get_config())
    stages = {stage.name for stage in made.stages} | {"evaluate"}
    seeds = {"data.seed", *(f"{stage}.data.seed" for stage in stages)}
    assert changed("data.seed", 9) == changed("critic.data.seed", 9) == seeds
    generators = {s.name for s in made.stages if hasattr(s, "prompts")} | {"evaluate"}
    lengths = {"prompts.max_length", *(f"{n}.prompts.max_length" for n in generators)}
    assert changed("prompts.max_length", 128) == lengths


def experiment(**changes) -> Experiment:
    made = read_experiment(quickstart.get_config())
    return dataclasses.replace(made, **changes)


def test_what_a_stage_or_row_names_has_to_be_there():
    made = experiment()
    with pytest.raises(ValueError, match=r"stage 'persona' needs 'dialogue', which"):
        experiment(stages=made.stages[1:])
    with pytest.raises(ValueError, match=r"two parts are named 'dialogue'"):
        experiment(stages=made.stages + made.stages[:1])
    row = Generators("", "nowhere/model_response")
    with pytest.raises(ValueError, match=r"row 'new' needs 'nowhere', which is none"):
        experiment(systems={"new": row})
    row = Generators("", "response", against=("theirs",))
    with pytest.raises(ValueError, match=r"row 'new' is compared with 'theirs'"):
        experiment(systems={"new": row})
    with pytest.raises(ValueError, match=r"row 'retrieval' has a control's name"):
        experiment(systems={"retrieval": Generators("", "response")})
    for rows, told in [
        ({"new": Generators("", "persona")}, "'persona' for a response generator"),
        ({"new": Generators("", "critic")}, "'critic' for a response generator"),
        ({"new": Generators("", "response", "response")}, "for a persona generator"),
        ({"a/b": Generators("", "response")}, "no name of a file"),
        (
            {"new": Generators("", "response", against=("new",))},
            "is compared with itself",
        ),
        (dict.fromkeys("ab", Generators("R", "response")), "two rows have the label"),
    ]:
        with pytest.raises(ValueError, match=told):
            experiment(systems=rows)
    for change, told in [
        ({"persona": "response"}, "takes 'response' for a persona generator"),
        ({"response": "dialogue"}, "takes 'dialogue' for a response generator"),
        ({"critic": "persona"}, r"critic='persona' is no critic; name one of"),
    ]:
        stages = [
            dataclasses.replace(s, **change) if s.name == "reinforce" else s
            for s in made.stages
        ]
        with pytest.raises(ValueError, match=told):
            experiment(stages=tuple(stages))
    dataclasses.replace(made, evaluate=dataclasses.replace(made.evaluate, critic=""))
    thirds = [
        dataclasses.replace(s, critic="third") if s.task == "reinforce" else s
        for s in made.stages
    ]
    (judge,) = (s for s in made.stages if s.name == "critic_held_out")
    with pytest.raises(ValueError, match="has to be of another half"):
        experiment(stages=(dataclasses.replace(judge, name="third"), *thirds))
    for name, told in [
        ("critic_heldout", "evaluate.held_out='critic_heldout' is no critic"),
        ("critic", "has to be of another half"),
    ]:
        judged = dataclasses.replace(made.evaluate, held_out=name)
        with pytest.raises(ValueError, match=told):
            experiment(evaluate=judged)
    with pytest.raises(UserError, match=r"--stage=poem: no such stage .* dialogue"):
        made.stage("poem")


@pytest.mark.parametrize(
    "name", ["paper", "personachat_scratch", "personachat_smollm2", "quickstart"]
)
def test_a_preset_is_an_experiment_and_a_flag_reaches_its_rows(name):
    values = importlib.import_module(f"configs.{name}").get_config()
    values.systems.full.label = "another"
    made = read_experiment(values)
    assert made.systems["full"].label == "another"
    assert [s.name for s in made.stages] == list(
        dict.fromkeys(s.name for s in made.stages)
    )


@pytest.mark.parametrize("name", ["paper", "personachat_smollm2", "quickstart"])
def test_table_7_is_whole_and_each_row_differs_by_one_setting(name):
    made = read_experiment(importlib.import_module(f"configs.{name}").get_config())
    assert set(SHOWN["table7"]) <= set(made.systems)
    changes = {
        "persona": {"train_response": False},
        "response": {"train_persona": False},
        "persona_x10": {"persona_reward_scale": 10.0},
        "response_x10": {"response_reward_scale": 10.0},
        "persona_x100": {"persona_reward_scale": 100.0},
        "response_x100": {"response_reward_scale": 100.0},
    }
    joint = made.stage("reinforce")
    assert joint.train_persona
    assert joint.train_response
    for beside, changed in changes.items():
        stage = made.stage(f"reinforce_{beside}")
        assert stage == dataclasses.replace(joint, name=stage.name, **changed)
        row, alone = made.systems[f"ours_{beside}"], "x" not in beside
        weights = "model" if alone else "last"
        assert row.response == f"{stage.name}/{weights}_response"
        assert row.persona == f"{stage.name}/{weights}_persona"
        assert row.against == ("ours_supervised" if alone else "ours_last",)


def test_the_recipe_of_smollm2_names_every_stage():
    made = read_experiment(personachat_smollm2.get_config())
    recipe = (ROOT / "launch" / "personachat_smollm2.sh").read_text(encoding="utf-8")
    (named,) = re.findall(r"stages=\(([^)]*)\)", recipe)
    assert sorted(named.split()) == sorted(stage.name for stage in made.stages)


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
    told = r"^first\.rat: no such field \(did you mean rate\?\); there are .*rate"
    with pytest.raises(UserError, match=told):
        from_config_dict(Outer, {"size": 1, "first": {"rat": 1.0}})


@pytest.mark.parametrize("typed", ["", "--"])
def test_a_refused_value_is_told_as_it_was_typed(typed):
    def refuses(values, told):
        with pytest.raises(UserError, match=f"^{typed}{told}"):
            from_config_dict(Outer, {"size": 1} | values, typed=typed)

    refuses({"second": {"rate": -1.0}}, r"second\.rate=-1\.0 must be > 0")
    refuses({"second": {"rate": "hot"}}, r"second\.rate='hot': expected a finite")
    refuses({"size": math.nan}, "size=nan: expected a whole number")
    with pytest.raises(UserError, match=r"Outer.*size"):
        from_config_dict(Outer, {"text": "no size"}, typed=typed)


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


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"size": 2.5}, "size=2.5: expected a whole number"),
        ({"size": 10**20}, "size=100000000000000000000: expected a whole number"),
        ({"size": True}, "size=True: expected a whole number"),
        (
            {"first": {"rate": math.inf}},
            r"first\.rate=inf: expected a finite number",
        ),
        (
            {"first": {"rate": math.nan}},
            r"first\.rate=nan: expected a finite number",
        ),
        ({"first": {"rate": "hot"}}, r"first\.rate='hot': expected a finite number"),
        ({"text": 3}, "text=3: expected a text"),
        ({"second": {"rate": -1.0}}, r"second: rate=-1\.0 must be > 0"),
    ],
)
def test_a_refused_value_is_told_by_its_flag(value, told):
    with pytest.raises(UserError, match=rf"^--config\.part\.{told}"):
        from_config_dict(Outer, {"size": 1} | value, "part")


def test_a_run_without_a_finished_stage_is_not_evaluated(tmp_path):
    made = experiment()
    with pytest.raises(UserError, match=r"nothing has no finished stage"):
        require_finished(made, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    done = tmp_path / "run" / made.stages[0].name
    done.mkdir(parents=True)
    (done / "result.json").write_text("{}")
    require_finished(made, tmp_path / "run")
