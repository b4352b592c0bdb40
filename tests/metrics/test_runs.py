"""Several runs of each system: an estimate knows how runs differ, and groups, too."""

import numpy as np
import pytest

from ppg_jax.metrics import significance

GROUPS = np.repeat(np.arange(30), 4)


def scores(seed: int, mean: float = 0.0, run: float = 0.0) -> np.ndarray:
    """Scores [120] of which each group has something in common, and a run."""
    rng = np.random.default_rng(seed)
    group = np.random.default_rng(7).normal(size=30)[GROUPS]
    return mean + run + group + rng.normal(size=len(GROUPS))


def test_a_run_that_is_there_three_times_has_its_own_interval_and_test():
    """In exact numbers, with the draws written out."""
    a, b = scores(1), scores(2, 0.3)
    sums = [np.array([[x[g == GROUPS].sum(), 4.0] for g in range(30)]) for x in (a, b)]
    options = {"groups": GROUPS, "resamples": 300, "seed": 3}
    draws = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30), size=300)
    one, other = (significance.ratio(draws @ each) for each in sums)
    for times in (1, 3):
        found = significance.bootstrap([a] * times, **options)
        assert found.value == pytest.approx(a.mean())
        assert found[1:] == pytest.approx(np.quantile(one, [0.025, 0.975]))
        found = significance.paired_bootstrap([a] * times, [b] * times, **options)
        assert found[1:] == pytest.approx(np.quantile(one - other, [0.025, 0.975]))
    assert significance.paired_permutation(
        [a] * 3, [b] * 3, **options
    ) == pytest.approx(significance.paired_permutation([a], [b], **options))


def test_what_runs_add_is_students_interval_of_their_mean():
    """Where instances all agree, the interval is of the runs alone."""
    values = [1.0, 2.0, 6.0]
    made = [np.full(len(GROUPS), v) for v in values]
    found = significance.bootstrap(made, groups=GROUPS, resamples=100)
    error = np.std(values, ddof=1) / np.sqrt(3)
    assert found == pytest.approx((3, 3 - 4.302653 * error, 3 + 4.302653 * error))
    # Beside what the groups add, each side for itself.
    interval = significance.Interval(3.0, 2.0, 6.0)
    low, high = np.hypot([1, 3], 4.302653 * error)
    wide = significance.with_runs(interval, values)
    assert wide == pytest.approx((3, 3 - low, 3 + high))
    assert significance.with_runs(interval, values[:1]) == interval


@pytest.mark.parametrize("runs", [2, 3, 4])
@pytest.mark.parametrize("differ", [0.1, 0.5])
def test_an_interval_covers_the_mean_over_runs_that_were_not_made(runs, differ):
    """Of 300 experiments of few runs; one run's own does not where they differ."""
    rng, groups, covered = np.random.default_rng(0), np.repeat(np.arange(60), 2), []
    for _ in range(300):
        shared = rng.normal(size=60)[groups]
        made = [
            rng.normal(0, differ) + shared + rng.normal(size=120) for _ in range(runs)
        ]
        found = [
            significance.bootstrap(m, groups=groups, resamples=300)
            for m in (made, made[:1])
        ]
        covered.append([each.low <= 0 <= each.high for each in found])
    several, one = np.mean(covered, axis=0)
    assert several >= 0.93
    assert one < 0.75 or differ < 0.5


@pytest.mark.parametrize("runs", [2, 3])
def test_seeds_alone_make_no_two_systems_differ(runs):
    """Equal systems, whose runs differ as much as instances do: where the interval
    leaves out 0 and the permutation finds them different, five times in a hundred."""
    rng, groups, wrong = np.random.default_rng(2), np.repeat(np.arange(30), 3), 0
    for _ in range(200):
        a, b = (
            [0.3 * rng.normal() + rng.normal(size=90) for _ in range(runs)]
            for _ in range(2)
        )
        found = significance.paired_bootstrap(a, b, groups=groups, resamples=200)
        p = significance.paired_permutation(a, b, groups=groups, resamples=200)
        wrong += p < 0.05 and not found.low <= 0 <= found.high
    assert wrong / 200 <= 0.08


def test_a_difference_of_pairs_is_free_of_what_both_runs_share():
    made = [(scores(i, run=r), scores(i + 9, 0.2, r)) for i, r in enumerate((-3, 0, 3))]
    a, b = zip(*made, strict=True)
    found = significance.paired_bootstrap(b, a, groups=GROUPS)
    apart = significance.paired_bootstrap(b, a[::-1], groups=GROUPS)
    assert found.value == pytest.approx(apart.value)
    assert found.high - found.low < 0.2 * (apart.high - apart.low)


def test_groups_change_places_in_all_runs_alike():
    """The p of a null difference is as often below 0.1 as it says, with groups that
    have much in common over runs; swapped run by run it would be far more often."""
    rng, low = np.random.default_rng(1), 0
    for _ in range(200):
        a, b = (np.repeat(rng.normal(size=12), 3) for _ in range(2))
        noise = lambda x: [x + 0.1 * rng.normal(size=36) for _ in range(3)]  # noqa: E731
        groups = np.repeat(np.arange(12), 3)
        p = significance.paired_permutation(
            noise(a), noise(b), groups=groups, resamples=199
        )
        low += p <= 0.1
    assert 0.05 <= low / 200 <= 0.16


def test_runs_that_are_no_pairs_are_told():
    with pytest.raises(ValueError, match="as many runs of each"):
        significance.paired_bootstrap(
            [scores(0)], [scores(0), scores(1)], groups=GROUPS
        )


def test_the_spread_of_one_run_is_not_known():
    assert significance.spread([2.0]) is None
    assert significance.spread([1.0, 3.0]) == pytest.approx(2**0.5)
