"""Reward, baseline and advantage against their formulas."""

import numpy as np
import pytest

from ppg_jax.rl.rewards import REWARDS, Judged, advantage, baseline

SCORES = np.array([0.0, 0.2, 0.5, 0.9, 1.0], np.float32)


def reward(kind: str = "sign") -> np.ndarray:
    return REWARDS[kind](Judged(SCORES, (), (), ()))


def test_sign_is_the_papers_plus_or_minus_one():
    np.testing.assert_array_equal(reward(), [-1, -1, 1, 1, 1])


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
