"""Intervals cover as often as they say, and tests err as seldom as they say."""

import math

import numpy as np
import pytest
from scipy import stats

from ppg_jax.metrics.ppl import perplexity
from ppg_jax.metrics.significance import (
    binomial_p,
    bootstrap,
    holm,
    jackknife,
    jackknife_p,
    paired_bootstrap,
    paired_permutation,
    percentiles,
    ratio,
    share,
    smallest_p,
    wilson,
)


def grouped(rng, groups=60, size=8, spread=1.0):
    """Scores of mean zero whose groups share half of their variance: [N], [N]."""
    shared = rng.normal(size=groups).repeat(size)
    own = rng.normal(size=groups * size)
    return spread * (shared + own), np.arange(groups).repeat(size)


def test_bootstrap_intervals_cover_the_truth_when_groups_are_drawn_whole():
    rng = np.random.default_rng(0)
    inside = {"grouped": [], "alone": []}
    for trial in range(1000):
        scores, groups = grouped(rng)
        named = [("grouped", groups), ("alone", None)]
        for name, given in named if trial < 100 else named[:1]:
            interval = bootstrap([scores], groups=given, resamples=300, seed=trial)
            inside[name].append(interval.low <= 0 <= interval.high)
    assert 0.92 <= np.mean(inside["grouped"]) <= 0.97
    assert np.mean(inside["alone"]) < 0.80  # which is why there are groups


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval():
    scores = np.random.default_rng(1).exponential(size=3000)
    found = bootstrap([scores], resamples=2000)
    error = scores.std() / math.sqrt(len(scores))
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(scores.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(scores.mean() + 1.96 * error, abs=0.15 * error)


def test_intervals_of_skewed_scores_cover_somewhat_less_than_they_say():
    """As BLEU is: nothing for most groups, and of the others much for few."""
    rng, mean = np.random.default_rng(12), math.exp(0.7**2 / 2)
    covered = {"one system": [], "a difference": []}
    for trial in range(600):
        a, b = (
            rng.lognormal(0, 0.7, size=120) * (rng.random(120) < share)
            for share in (0.1, 0.05)
        )
        found = bootstrap([a], resamples=400, seed=trial % 4)
        covered["one system"].append(found.low <= 0.1 * mean <= found.high)
        found = paired_bootstrap([a], [b], resamples=400, seed=trial % 4)
        covered["a difference"].append(found.low <= 0.05 * mean <= found.high)
    for inside in covered.values():
        assert 0.89 <= np.mean(inside) <= 0.95


def test_bootstrap_takes_ratios_of_sums():
    rng = np.random.default_rng(2)
    tokens = rng.integers(5, 20, size=400)
    columns = np.stack([tokens * rng.normal(3, 0.1, size=400), tokens], axis=1)
    found = bootstrap([columns], perplexity)
    expected = math.exp(columns[:, 0].sum() / columns[:, 1].sum())
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high
    assert found.high - found.low < 1.0


def test_groups_need_no_order_and_may_be_names():
    scores, groups = grouped(np.random.default_rng(3), groups=9)
    order = np.random.default_rng(4).permutation(len(scores))
    named = [f"dialogue {g}" for g in groups]
    np.testing.assert_allclose(
        bootstrap([scores], groups=named),
        bootstrap([scores[order]], groups=[named[i] for i in order]),
    )


def test_the_same_seed_gives_the_same_interval():
    scores, groups = grouped(np.random.default_rng(5))
    assert bootstrap([scores], groups=groups) == bootstrap([scores], groups=groups)
    assert bootstrap([scores], groups=groups) != bootstrap(
        [scores], groups=groups, seed=1
    )


def test_pairing_removes_what_two_systems_share():
    rng = np.random.default_rng(6)
    common, groups = grouped(rng, spread=10.0)
    a, b = (common + shift + rng.normal(size=len(common)) for shift in (0.5, 0.0))
    paired = paired_bootstrap([a], [b], groups=groups)
    assert paired.value == pytest.approx(a.mean() - b.mean())
    assert 0 < paired.low < 0.5 < paired.high < 1
    alone = bootstrap([a], groups=groups)
    assert alone.high - alone.low > 5 * (paired.high - paired.low)


def test_permutation_p_is_uniform_without_a_difference():
    rng = np.random.default_rng(7)
    p_values = []
    for trial in range(300):
        (a, groups), (b, _) = grouped(rng, 25, 4), grouped(rng, 25, 4)
        p = paired_permutation([a], [b], groups=groups, resamples=200, seed=trial)
        p_values.append(p)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) <= 0.05) <= 0.085


def test_permutation_p_is_small_with_a_difference_and_agrees_with_scipy():
    rng = np.random.default_rng(8)
    a = rng.normal(0.25, 1, size=60)
    b = np.zeros(60)
    p = paired_permutation([a], [b], resamples=5000)
    expected = stats.permutation_test(
        (a, b),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=5000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert p == pytest.approx(expected, abs=0.02)
    assert (
        paired_permutation([a + 1], [b], resamples=999) == smallest_p(999) == 1 / 1000
    )


def test_permutation_takes_ratios_of_sums_and_swaps_groups_whole():
    rng = np.random.default_rng(9)
    tokens = rng.integers(5, 20, size=300)
    good, bad = (
        np.stack([tokens * rng.normal(mean, 0.3, size=300), tokens], axis=1)
        for mean in (3.0, 3.2)
    )
    assert paired_permutation([good], [bad], perplexity) < 0.01
    two_groups = np.arange(300) < 150  # four equal outcomes at most
    assert paired_permutation([good], [bad], perplexity, two_groups) > 0.3


def test_equal_systems_are_told_apart_with_p_one():
    scores = np.random.default_rng(10).random(50)
    assert paired_permutation([scores], [scores]) == 1.0
    assert paired_bootstrap([scores], [scores]) == (0, 0, 0)


def test_what_smoothing_adds_to_nothing_breaks_no_tie():
    # One group of ten differs: whichever way it is swapped, the difference is as large.
    a = np.full(10, 1e-9)
    b = np.linspace(2e-9, 9e-9, 10)
    b[0] = 36.0
    assert paired_permutation([a], [b], resamples=99) == 1


def test_the_jackknife_of_a_mean_is_its_standard_error():
    scores = np.random.default_rng(11).normal(1, 2, size=50)
    leave_one_out = (scores.sum() - scores) / 49
    interval = jackknife(scores.mean(), leave_one_out)
    error = scores.std(ddof=1) / math.sqrt(50)
    assert interval.high - scores.mean() == pytest.approx(1.959964 * error)
    expected = 2 * stats.norm.sf(scores.mean() / error)
    assert jackknife_p(scores.mean(), leave_one_out) == pytest.approx(expected)
    assert jackknife_p(0.0, np.zeros(5)) == 1.0


def test_holm_by_hand():
    # 4 * .01, 3 * .02, then never below an earlier one, and never over 1.
    assert holm([0.02, 0.01, 0.9, 0.021]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    "wins, n, p",
    # The paper's table 6 calls the first of these p < 0.05.
    [(318, 600, 0.153), (106, 200, 0.437), (112, 200, 0.104), (116, 200, 0.028)]
    + [(118, 200, 0.013), (336, 600, 0.0037), (348, 600, 0.0001), (354, 600, 1e-5)]
    + [(424, 800, 0.097), (448, 800, 0.0008), (464, 800, 1e-5), (1272, 2400, 0.0035)],
)
def test_binomial_p_of_the_human_evaluation(wins, n, p):
    assert binomial_p(wins, n) == pytest.approx(p, rel=0.05, abs=1e-5)
    assert binomial_p(wins, n) == pytest.approx(stats.binomtest(wins, n).pvalue)
    assert binomial_p(n - wins, n) == binomial_p(wins, n)


def test_binomial_p_and_wilson_equal_scipy_everywhere():
    for n in (1, 2, 7, 30):
        for wins in range(n + 1):
            test = stats.binomtest(wins, n)
            assert binomial_p(wins, n) == pytest.approx(test.pvalue)
            expected = test.proportion_ci(method="wilson")
            found = wilson(wins, n)
            assert found.value == wins / n
            np.testing.assert_allclose(
                found[1:], [expected.low, expected.high], atol=1e-12
            )


def test_the_interval_of_a_share_covers_the_truth_by_groups():
    """Groups share a chance of 0.75 on average; or hold pairs of which one is right."""
    rng, inside, too_narrow = np.random.default_rng(14), [], []
    for _ in range(600):
        chances = rng.beta(3, 1, size=100).repeat(20)
        right, groups = rng.random(2000) < chances, np.arange(100).repeat(20)
        low, high = share(right, groups)[1:]
        inside.append(low <= 0.75 <= high)
        low, high = wilson(right.sum(), 2000)[1:]
        too_narrow.append(low <= 0.75 <= high)
    assert 0.925 <= np.mean(inside) <= 0.97
    assert np.mean(too_narrow) < 0.8
    either = np.tile([True, False], 300)
    either[::20] = False
    balanced, alone = share(either, np.arange(600) // 2), wilson(either.sum(), 600)
    assert balanced.value == alone.value
    assert balanced.high - balanced.low < 0.6 * (alone.high - alone.low)


@pytest.mark.parametrize("number", [2, 3, 5, 10])
def test_the_interval_of_a_share_covers_the_truth_with_few_groups(number):
    rng, inside = np.random.default_rng(16), []
    for _ in range(400):
        right = rng.random(20 * number) < 0.75
        low, high = share(right, np.arange(number).repeat(20))[1:]
        inside.append(low <= 0.75 <= high)
    assert np.mean(inside) >= 0.93


def test_a_share_of_independent_ones_has_wilsons_interval():
    right = np.arange(4000) % 3 == 0
    np.testing.assert_allclose(share(right), wilson(right.sum(), 4000), atol=1e-5)
    all_right = share(np.ones(50), np.arange(50) // 5)
    assert all_right == wilson(10, 10)  # ten groups are what is independent
    assert all_right.low < 1


def test_two_judges_of_the_same_pairs_are_compared_by_groups():
    """Whoever is right about one persona is so about all its pairs: no evidence."""
    rng = np.random.default_rng(15)
    groups = np.arange(50).repeat(20)
    a, b = (rng.random(50).repeat(20) < chance for chance in (0.7, 0.6))
    assert (
        paired_permutation([a], [b])
        < 0.05
        < paired_permutation([a], [b], groups=groups)
    )
    better = a | (rng.random(1000) < 0.4)
    assert paired_permutation([better], [a], groups=groups) == smallest_p(1000)


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(ValueError, match="1 group of instances"):
        bootstrap([[1.0, 2.0]], groups=["a", "a"])
    with pytest.raises(ValueError, match="1 group of instances"):
        jackknife(1.0, [1.0])
    with pytest.raises(ValueError, match="3 groups for 2 instances"):
        bootstrap([[1.0, 2.0]], groups=[1, 2, 3])
    with pytest.raises(ValueError, match="same instances"):
        paired_permutation([[1.0, 2.0]], [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="0 <= wins <= n"):
        wilson(3, 2)


def test_ratio_is_over_the_last_axis():
    np.testing.assert_array_equal(ratio([[1, 2], [3, 4]]), [0.5, 0.75])


def test_a_difference_without_error_is_certain():
    assert jackknife_p(0.5, np.full(5, 0.5)) == 0
    assert jackknife_p(0.0, np.zeros(5)) == 1


def test_an_interval_holds_its_value_however_it_is_rounded():
    for value, drawn in ((0.3, 0.1 + 0.2), (0.1 + 0.2, 0.3)):
        found = percentiles(value, [drawn] * 5, 0.95)
        assert found.low <= value <= found.high
