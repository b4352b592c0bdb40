"""What a response generator is told in training is what inference will tell it."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from ppg_jax.data.dialogue import Instance, dialogue_of, instances
from ppg_jax.data.examples import examples
from ppg_jax.errors import UserError
from ppg_jax.inference import exposure
from ppg_jax.inference.exposure import Exposure
from ppg_jax.stages import supervised
from ppg_jax.systems.generators import PersonaGenerator
from ppg_jax.systems.system import Asking
from tests import models_for_tests as small
from tests import run_for_tests as runs

DIALOGUES = runs.dialogues("train", 6)
ASKED = instances(DIALOGUES)
ALL, HALF = Exposure("persona"), Exposure("persona", 0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    runs.write_stages(workdir)
    return workdir


@pytest.fixture
def prompts(made):
    return runs.load_generator(made / "persona" / "model")[2]


def inferred(workdir, prompts, told=ALL, asked=ASKED, seed=0, split="train"):
    return exposure.inferred(told, workdir, prompts, asked, split, seed)


@pytest.mark.parametrize("contrast", [0.0, 2.0])
def test_it_is_told_what_evaluation_infers(made, prompts, contrast):
    row = PersonaGenerator("Mine", "persona", contrast)
    row = row.load(Asking(made, (), runs.PROMPTS))
    found = inferred(made, prompts, Exposure("persona", contrast=contrast))
    assert list(found) == [i.id for i in ASKED]
    said = [prompts.text(tokens) for tokens in found.values()]
    assert said == [answer.text for answer in row.respond(ASKED)]
    assert len({*said}) > 1


def test_a_persona_is_inferred_once_for_all_stages_and_goes_on_after_a_kill(
    made, prompts, tmp_path, monkeypatch
):
    runs.write_stages(tmp_path)
    asked, inner = [], exposure._inferring

    def watched(*how):
        infer = inner(*how)

        def count(some):
            if len(asked) == 2:
                raise KeyboardInterrupt
            asked.append(some)
            return infer(some)

        return count

    monkeypatch.setattr(exposure, "PART", 3)
    monkeypatch.setattr(exposure, "_inferring", watched)
    with pytest.raises(KeyboardInterrupt):
        inferred(tmp_path, prompts)
    monkeypatch.setattr(exposure, "_inferring", inner)
    expected = inferred(made, prompts)
    known = {i.id for part in asked for i in part}
    assert inferred(tmp_path, prompts, asked=ASKED[:6]).keys() == known
    assert inferred(tmp_path, prompts) == expected
    monkeypatch.delattr(exposure, "_inferring")  # all are known
    assert inferred(tmp_path, prompts) == expected
    half = inferred(tmp_path, prompts, HALF)
    assert half == {name: expected[name] for name in half}


@pytest.mark.parametrize(
    "wrong", [{"id": "a"}, {"id": "a", "tokens": 3}, {"id": "a", "tokens": ["x"]}]
)
def test_inferred_personas_that_are_none_are_told(wrong, prompts, tmp_path):
    runs.write_stages(tmp_path)
    inferred(tmp_path, prompts)
    (path,) = (tmp_path / "persona" / "inferred").iterdir()
    path.write_text(json.dumps(wrong) + "\n")
    with pytest.raises(UserError, match=f"{path} is not as it was written; delete it"):
        inferred(tmp_path, prompts)


def test_of_another_generator_nothing_is_known(made, prompts, tmp_path):
    runs.write_stages(tmp_path)
    inferred(tmp_path, prompts)
    params = runs.export_generator(tmp_path / "persona" / "model", 5, " tea")
    (tmp_path / "persona" / "result.json").write_text(
        json.dumps({"params_sha256": supervised.params_sha256(params)})
    )
    assert inferred(tmp_path, prompts) != inferred(made, prompts)


def test_instances_of_another_split_with_the_same_ids_are_not_taken_for_them(
    prompts, tmp_path
):
    runs.write_stages(tmp_path)
    inferred(tmp_path, prompts)
    others = [dataclasses.replace(i, context=("i need tea",)) for i in ASKED]
    told = [
        inferred(tmp_path, prompts, asked=others, split=split)
        for split in ("valid", "train")
    ]
    assert told[0].keys() == told[1].keys() and told[0] != told[1]


def test_which_instances_are_told_is_drawn_by_each_ones_id_and_the_seed():
    asked = turns_of(2000, 1)
    drawn = [i.id for i in exposure.chosen(HALF, asked, 0)]
    assert [i.id for i in exposure.chosen(HALF, asked[::-1], 0)] == drawn[::-1]
    assert exposure.chosen(ALL, asked, 0) == asked


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_seeds_and_the_turns_of_a_dialogue_are_drawn_independently(share):
    """Both of two are drawn in share^2 of 4000, give or take four errors of that."""
    asked = turns_of(500, 8)
    exposed = Exposure("persona", share)
    drawn = [{i.id for i in exposure.chosen(exposed, asked, seed)} for seed in range(3)]
    both = share**2
    error = 4 * np.sqrt(both * (1 - both) / 4000)
    for one, other in itertools.combinations(drawn, 2):
        assert len(one & other) / 4000 == pytest.approx(both, abs=error)
    for apart in range(1, 8):
        pairs = [(a, b) for a, b in zip(asked, asked[apart:], strict=False)]
        same = [(a, b) for a, b in pairs if dialogue_of(a.id) == dialogue_of(b.id)]
        found = np.mean([a.id in drawn[0] and b.id in drawn[0] for a, b in same])
        error = 4 * np.sqrt(both * (1 - both) / len(same))
        assert found == pytest.approx(both, abs=error)
    of_all = sum(len(some) for some in drawn) / 3 / 4000
    assert of_all == pytest.approx(share, abs=0.02)


def turns_of(dialogues: int, turns: int) -> list[Instance]:
    """Instances that differ in their ids alone."""
    ids = itertools.product(range(dialogues), range(turns))
    return [dataclasses.replace(ASKED[0], id=f"train:{d}:{t}") for d, t in ids]


def test_the_personas_are_in_the_prompt_and_the_target_is_the_same(prompts):
    gold = examples(prompts, DIALOGUES, "response", "instance", "gold")
    told = {ASKED[3].id: [5, 6, 7, prompts.end_id]}
    made_ = examples(prompts, DIALOGUES, "response", "instance", "gold", inferred=told)
    for number, (one, other) in enumerate(zip(gold, made_, strict=True)):
        assert (list(one.tokens) != list(other.tokens)) == (number == 3)
        assert list(one.tokens[-3:]) == list(other.tokens[-3:])
    text = " ".join(map(str, made_[3].tokens))
    assert f" 5 6 7 {prompts.end_id} " in text


def test_no_stage_asks_one_that_has_not_finished(tmp_path):
    prompts = small.prompts()
    with pytest.raises(UserError, match="persona is not finished; first run"):
        inferred(tmp_path, prompts)
    assert inferred(tmp_path, prompts, Exposure()) == {}
    with pytest.raises(UserError, match="persona is not finished"):
        ALL.sums(tmp_path)
    assert Exposure().sums(tmp_path) == {}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"task": "persona"}, "is told to a response generator"),
        ({"batching": "dialogue"}, 'task="response" and batching="instance"'),
    ],
)
def test_an_inferred_persona_is_told_to_a_response_generator_turn_by_turn(
    changed, told
):
    fits = {"name": "r", "task": "response", "batching": "instance", "exposure": ALL}
    config = supervised.Config(**fits, init_stage="dialogue")
    assert config.needs == ("dialogue", "persona")
    with pytest.raises(ValueError, match=told):
        supervised.Config(**fits | changed)


@pytest.mark.parametrize("nobodys", [{"share": 0.5}, {"contrast": 1.0}], ids=str)
def test_what_is_of_a_persona_generators_personas_needs_one(nobodys):
    with pytest.raises(ValueError, match="name it, persona=STAGE"):
        Exposure(**nobodys)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_of_none_or_of_more_than_all_is_refused(share):
    with pytest.raises(ValueError, match=f"share={share} must be more than 0"):
        Exposure("persona", share)


def test_a_generator_that_has_learned_other_prompts_is_not_asked(tmp_path):
    data = runs.write_stages(tmp_path)
    config = supervised.Config(
        "told",
        "response",
        data=data,
        prompts=dataclasses.replace(runs.PROMPTS, max_turns=2),
        tokenizer="",
        init=str(tmp_path / "response" / "model"),
        batching="instance",
        exposure=ALL,
    )
    with pytest.raises(UserError, match=r"prompts\.max_turns was 0, is 2"):
        supervised.run(config, tmp_path)
    assert not (tmp_path / "persona" / "inferred").exists()


def test_a_stage_that_was_told_by_another_generator_is_not_the_same(made, tmp_path):
    """Its fingerprint has the weights that were asked, and `require_fresh` reads it."""
    runs.write_stages(tmp_path)
    config = supervised.Config("told", "response", batching="instance", exposure=ALL)
    supervised.run_dir.claim(tmp_path / "told", config, ALL.sums(tmp_path))
    supervised.run_dir.require_fresh(tmp_path, "told")
    (tmp_path / "persona" / "result.json").write_text(
        json.dumps({"params_sha256": "b" * 64})
    )
    with pytest.raises(UserError, match="was made from another persona than the one"):
        supervised.run_dir.require_fresh(tmp_path, "told")
