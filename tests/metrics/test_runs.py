"""Several runs of each system: an estimate knows how runs differ, and groups, too."""

import numpy as np
import pytest

from ppg_jax.metrics import runs, significance

GROUPS = np.repeat(np.arange(30), 4)


def scores(seed: int, mean: float = 0.0, run: float = 0.0) -> np.ndarray:
    """Scores [120] of which each group has something in common, and a run."""
    rng = np.random.default_rng(seed)
    group = np.random.default_rng(7).normal(size=30)[GROUPS]
    return mean + run + group + rng.normal(size=len(GROUPS))


@pytest.mark.parametrize("seed", [0, 3])
def test_one_run_has_its_own_interval_and_test(seed):
    a, b = scores(1), scores(2, 0.3)
    options = {"groups": GROUPS, "resamples": 300, "seed": seed}
    assert runs.bootstrap([a], **options) == pytest.approx(
        significance.bootstrap(a, **options)
    )
    assert runs.paired_bootstrap([a], [b], **options) == pytest.approx(
        significance.paired_bootstrap(a, b, **options)
    )
    assert runs.paired_permutation([a], [b], **options) == pytest.approx(
        significance.paired_permutation(a, b, **options)
    )


def test_what_runs_add_to_the_variance_is_that_of_their_mean():
    """Where instances all agree, the interval is of the runs alone: the standard error
    of a mean of three, not what drawing three of three shows of it."""
    values = [1.0, 2.0, 6.0]
    made = [np.full(len(GROUPS), v) for v in values]
    found = runs.bootstrap(made, groups=GROUPS, resamples=20_000)
    assert found.value == pytest.approx(3)
    assert (found.low, found.high) == (1, 6)  # no run was beyond
    weights = runs._weights(3, 20_000, 0)
    error = np.std(values, ddof=1) / np.sqrt(3)
    assert (weights @ values).std() == pytest.approx(error, rel=0.03)
    assert weights.min() >= 0 and np.allclose(weights.sum(axis=1), 1)


def test_an_interval_covers_the_mean_over_runs_that_were_not_made():
    """Of 200 experiments of four runs, which differ by 0.5; one run's own does not."""
    rng, groups, covered = np.random.default_rng(0), np.repeat(np.arange(60), 2), []
    for _ in range(200):
        shared = rng.normal(size=60)[groups]
        made = [rng.normal(0, 0.5) + shared + rng.normal(size=120) for _ in range(4)]
        found = [
            runs.bootstrap(m, groups=groups, resamples=400) for m in (made, made[:1])
        ]
        covered.append([each.low <= 0 <= each.high for each in found])
    several, one = np.mean(covered, axis=0)
    assert 0.86 <= several <= 0.99 and one < 0.75


def test_a_difference_of_pairs_is_free_of_what_both_runs_share():
    made = [(scores(i, run=r), scores(i + 9, 0.2, r)) for i, r in enumerate((-3, 0, 3))]
    a, b = zip(*made, strict=True)
    found = runs.paired_bootstrap(b, a, groups=GROUPS)
    apart = runs.paired_bootstrap(b, a[::-1], groups=GROUPS)
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
        p = runs.paired_permutation(noise(a), noise(b), groups=groups, resamples=199)
        low += p <= 0.1
    assert 0.05 <= low / 200 <= 0.16


def test_runs_that_are_no_pairs_are_told():
    with pytest.raises(ValueError, match="as many runs of each"):
        runs.paired_bootstrap([scores(0)], [scores(0), scores(1)], groups=GROUPS)


def test_the_spread_of_one_run_is_not_known():
    assert runs.spread([2.0]) is None
    assert runs.spread([1.0, 3.0]) == pytest.approx(2**0.5)
