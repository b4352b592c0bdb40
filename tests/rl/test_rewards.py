"""Reward, baseline and advantage against their formulas."""

import dataclasses

import numpy as np
import pytest

from ppg_jax.data.dialogue import Instance
from ppg_jax.rl import rewards
from ppg_jax.rl.rewards import REWARDS, Judged, advantage, baseline
from ppg_jax.training.train_state import OptimizerConfig, make_optimizer
from tests.encoder_for_tests import bag

SCORES = np.array([0.0, 0.2, 0.5, 0.9, 1.0], np.float32)


def reward(kind: str = "sign") -> np.ndarray:
    return REWARDS[kind](Judged(SCORES, (), (), ()))


def test_sign_is_the_papers_plus_or_minus_one():
    """At a half no label is more likely, and argmax has the first: unrelated."""
    np.testing.assert_array_equal(reward(), [-1, -1, -1, 1, 1])


def test_soft_rewards_keep_the_order_and_the_sign():
    for kind in ("soft", "log_odds"):
        soft = reward(kind)
        assert (np.diff(soft) > 0).all() and np.isfinite(soft).all()
        np.testing.assert_array_equal(np.sign(soft), [-1, -1, 0, 1, 1])


def test_leave_one_out_is_the_mean_of_the_others():
    rewards = np.random.default_rng(0).normal(size=7).astype(np.float32)
    expected = [np.delete(rewards, i).mean() for i in range(7)]
    np.testing.assert_allclose(baseline(rewards, "leave_one_out"), expected, rtol=1e-6)


def test_baselines_centre_the_advantage_and_the_paper_has_none():
    rewards = reward()
    np.testing.assert_array_equal(advantage(rewards, "none", 1.0), rewards)
    assert abs(advantage(rewards, "leave_one_out", 10.0).sum()) < 1e-5
    scaled = advantage(rewards, "leave_one_out", 10.0)
    np.testing.assert_allclose(scaled, 10 * advantage(rewards, "leave_one_out", 1.0))


def test_one_instance_alone_has_no_others_to_compare_with():
    np.testing.assert_array_equal(baseline(np.ones(1, np.float32), "leave_one_out"), 0)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'best' is none of \("):
        baseline(SCORES, "best")


def test_trait_f1_is_paid_for_what_is_right_of_a_persona(monkeypatch):
    """Two of three sentences right of a gold persona of four: 2 x 2 / 7."""
    monkeypatch.setattr(rewards, "_encoder", lambda: bag)
    gold = ("i sing.", "i love tea.", "i run.", "i paint.")
    asked = [Instance("a:0", 0, ("i am tall.",), gold, ("hi",), "hello")] * 3
    said = [
        "i sing. i have a car. i love tea.",
        "",
        "i sing. i love tea. i run. i paint.",
    ]
    found = REWARDS["trait_f1"](Judged(SCORES[:3], said, said, asked))
    np.testing.assert_allclose(found, [4 / 7, 0, 1], rtol=1e-6)
    assert found.dtype == np.float32
    asked[1] = dataclasses.replace(asked[1], partner_persona=())  # nothing is known
    found = REWARDS["trait_f1"](Judged(SCORES[:3], said, said, asked))
    np.testing.assert_allclose(found, [4 / 7, (4 / 7 + 1) / 2, 1], rtol=1e-6)


def moved(scale: float, clip: float, other: float = 0.0) -> np.ndarray:
    """Where fifty updates by Adam lead from 0: of gradients with noise, that many times
    as large, and of a further term that is not scaled."""
    tx = make_optimizer(OptimizerConfig(learning_rate=1e-3, clip_norm=clip), 50)
    rng, at = np.random.default_rng(0), np.zeros(8, np.float32)
    state = tx.init(at)
    drift = rng.normal(size=(2, 8)).astype(np.float32)
    for _ in range(50):
        noise = rng.normal(size=8).astype(np.float32)
        gradient = scale * (drift[0] + noise) + other * drift[1]
        step, state = tx.update(gradient, state, at)
        at = at + np.asarray(step)
    return at


@pytest.mark.parametrize("scale", [10.0, 100.0])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_under_adam_the_scale_of_a_reward_does_nothing_clipped_or_not(scale, clip):
    plain = moved(1.0, clip)
    assert abs(moved(scale, clip) - plain).max() < 1e-4 * abs(plain).max()


def test_beside_a_term_that_is_not_scaled_it_does_something():
    """As a KL penalty is, and where a norm is clipped at one scale alone, a little."""
    plain = moved(1.0, 0.0, other=3.0)
    assert abs(moved(10.0, 0.0, other=3.0) - plain).max() > 0.1 * abs(plain).max()
    free = moved(1.0, 1e3)
    assert 1e-3 < abs(moved(1e3, 1e3) - free).max() / abs(free).max() < 0.3
