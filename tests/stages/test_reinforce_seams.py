"""What REINFORCE puts together: whom the critic is asked about, who is paid what, what
a validation reads, and which weights are kept and where.

The persona generator says tea and the response generator dogs, whatever they read. No
gold response has either, so the critic's "no" makes a validation better, its "yes"
worse.
"""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ppg_jax.data.dialogue import instances
from ppg_jax.files import read_json, read_metrics, write_json
from ppg_jax.inference.critic import Critic
from ppg_jax.inference.scoring import mean_nll
from ppg_jax.models import pretrained
from ppg_jax.rl.validation import subset_of
from ppg_jax.stages import reinforce
from ppg_jax.training.train_state import OptimizerConfig
from tests import run_for_tests as runs
from tests.models_for_tests import distance

VALID = instances(runs.dialogues("valid", 3))
MODELS = {"persona": "model_persona", "response": "model_response"}
NO, YES = 0.0, 1.0


class Run(NamedTuple):
    """A finished run, and what its critic was asked."""

    workdir: Path
    folder: Path
    result: dict
    asked: list[tuple[list[str], list[str]]]  # (first, second argument) per update
    metrics: list[dict]

    def logged(self, key: str) -> np.ndarray:
        """The values of one metric in the order of the updates."""
        return np.array([record[key] for record in self.metrics if key in record])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(name, the critic's answers by update, options of the config) -> `Run`."""
    workdir = tmp_path_factory.mktemp("run")
    data = runs.write_stages(workdir, persona=" tea", response=" dogs")

    def train(name: str, answers, **options) -> Run:
        asked = []

        def score(self, profiles, responses):
            asked.append((list(profiles), list(responses)))
            return np.full(len(profiles), answers[len(asked) - 1], np.float32)

        config = reinforce.Config(
            name=name,
            data=data,
            prompts=runs.PROMPTS,
            batch_size=4,
            updates=len(answers),
            # Without momentum: an update follows its own reward.
            optimizer=OptimizerConfig(learning_rate=0.01, b1=0.0),
            validation_instances=0,
            evaluate_every=1,
            log_every=1,
            checkpoint_every=0,
            **options,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Critic, "score", score)
            result = reinforce.run(config, workdir)
        metrics = read_metrics(workdir / name / "metrics.jsonl")
        return Run(workdir, workdir / name, result, asked, metrics)

    return functools.cache(train)


@pytest.fixture(scope="module")
def run(trained) -> Run:
    """Better for two updates, then worse for two."""
    return trained("reinforce", (NO, NO, YES, YES))


def weights(folder: Path):
    return pretrained.load(folder)[1]


def nll(folder: dict[str, Path], told: str) -> float:
    """Of the gold responses of validation, in nats per token; told: "gold" or "tea"."""
    response = runs.load_generator(folder["response"])
    partners = runs.gold(response[2], VALID)
    if told == "tea":
        partners = runs.inferred(runs.load_generator(folder["persona"]), VALID)
    return mean_nll(runs.scored(response, VALID, partners).values())


def test_the_last_policies_are_kept_beside_the_best(trained, run):
    for name in ("persona", "response"):
        best = weights(run.folder / f"model_{name}")
        assert distance(best, weights(run.folder / f"last_{name}")) > 1e-3
    assert run.result["criterion"] == "response_nll"
    # Nothing gets better: all that was learned is in the last ones.
    worse = trained("by_persona", (YES, YES), criterion="persona_nll")
    assert worse.result["criterion"] == "persona_nll"
    seen = [r["valid_persona_nll"] for r in worse.metrics if "valid_persona_nll" in r]
    assert worse.result["best_update"] == int(np.argmin(seen))
    np.testing.assert_allclose(
        np.log(worse.result["valid_persona_ppl"]), min(seen), rtol=1e-5
    )


def test_the_critic_is_asked_about_the_generated_persona_then_the_response(run):
    assert len(run.asked) == 4
    for personas, responses in run.asked:
        assert len(personas) == len(responses) == 4
        for persona, response in zip(personas, responses, strict=True):
            assert "tea" in persona and "dogs" not in persona
            assert "dogs" in response and "tea" not in response


@pytest.mark.parametrize("unpaid", ["persona", "response"])
def test_a_policy_whose_reward_is_scaled_to_nothing_stays_and_the_other_moves(
    trained, unpaid
):
    (paid,) = MODELS.keys() - {unpaid}
    run = trained(f"no_{unpaid}", (NO, NO), **{f"{unpaid}_reward_scale": 0.0})
    assert (run.logged(f"{unpaid}_loss") == 0).all()
    assert (run.logged(f"{paid}_loss") != 0).all()
    # KL to the supervised policies, measured before each update.
    np.testing.assert_allclose(run.logged(f"{unpaid}_kl"), 0, atol=1e-6)
    assert run.logged(f"{paid}_kl")[1] > 1e-5
    kept = weights(run.folder / MODELS[unpaid])
    assert distance(kept, weights(run.workdir / unpaid / "model")) == 0


def test_a_validation_tells_the_generated_persona_and_not_the_gold_one(run):
    folders = {name: run.workdir / name / "model" for name in MODELS}
    first = run.logged("valid_response_nll")[0]
    np.testing.assert_allclose(first, nll(folders, "tea"), rtol=1e-4)
    assert abs(first - nll(folders, "gold")) > 1e-2


def backwards(instance):
    persona = instance.partner_persona[::-1]
    return dataclasses.replace(instance, partner_persona=persona)


def test_validation_has_gold_personas_in_the_order_that_was_learned(
    tmp_path, monkeypatch
):
    data = runs.write_stages(tmp_path)
    path = tmp_path / "persona" / "fingerprint.json"
    write_json(path, read_json(path) | {"persona_order": "backwards"})
    monkeypatch.setitem(reinforce.ORDERS, "backwards", backwards)
    asked_of = {"data": data, "prompts": runs.PROMPTS, "validation_instances": 0}
    asked = []

    def validator(name, prompts, subset, policies, criterion):
        asked.extend(subset)
        raise KeyboardInterrupt

    monkeypatch.setattr(reinforce, "Validator", validator)
    with pytest.raises(KeyboardInterrupt):
        reinforce.run(reinforce.Config(**asked_of), tmp_path)
    chosen = subset_of(runs.dialogues("valid", 3), 0, 0)
    assert asked == [backwards(i) for i in chosen] != chosen


def test_the_policies_of_the_best_validation_are_kept(run):
    seen = run.logged("valid_response_nll")
    best = int(seen.argmin())
    assert 0 < best < len(seen) - 1
    others = np.delete(seen, best)
    assert np.abs(others - seen[best]).min() > 0.1
    folders = {name: run.folder / folder for name, folder in MODELS.items()}
    np.testing.assert_allclose(nll(folders, "tea"), seen[best], rtol=1e-4)
    assert run.result["best_update"] == best
    np.testing.assert_allclose(np.log(run.result["valid_response_ppl"]), seen[best])


@pytest.mark.parametrize("name", MODELS)
def test_each_policy_is_exported_under_its_own_name(run, name):
    (other,) = MODELS.keys() - {name}
    kept = weights(run.folder / MODELS[name])
    assert 1e-3 < distance(kept, weights(run.workdir / name / "model")) < 0.1
    assert distance(kept, weights(run.workdir / other / "model")) > 1
