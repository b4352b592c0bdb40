"""Intervals and tests over several runs of each system, which differ in their seeds.

Every run answers the same instances. An estimate is the mean over the runs; what is
drawn are runs and, in all of them alike, groups of instances (`significance`). Of one
run these are its own interval and test.

Axes: S runs, N instances, K columns, G groups, R resamples.
"""

import functools
from collections.abc import Sequence

import numpy as np

from ppg_jax.metrics.significance import (
    Interval,
    Statistic,
    draws_of,
    group_sums,
    percentiles,
    ratio,
    smallest_p,
)


def bootstrap(
    runs: Sequence[np.ndarray],
    statistic: Statistic = ratio,
    groups=None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of the mean of a statistic over runs.

    runs: S times [N] or [N, K], as `significance.bootstrap` takes them.
    """
    sums = [group_sums(run, groups) for run in runs]
    weights = _weights(len(runs), resamples, seed)
    draws = draws_of(len(sums[0]), resamples, seed)
    drawn = np.stack([statistic(draws @ each) for each in sums], axis=1)
    value = np.mean([statistic(each.sum(axis=0)) for each in sums])
    return percentiles(value, (weights * drawn).sum(axis=1), level)


def paired_bootstrap(
    runs_a: Sequence[np.ndarray],
    runs_b: Sequence[np.ndarray],
    statistic: Statistic = ratio,
    groups=None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean difference a - b; runs of the two with one number are of one
    seed, and drawn together.
    """
    a, b = _paired(runs_a, runs_b, groups)
    weights = _weights(len(a), resamples, seed)
    draws = draws_of(a.shape[1], resamples, seed)
    drawn = statistic(draws @ a) - statistic(draws @ b)  # [S, R]
    value = np.mean(statistic(a.sum(axis=1)) - statistic(b.sum(axis=1)))
    return percentiles(value, (weights.T * drawn).sum(axis=0), level)


def paired_permutation(
    runs_a: Sequence[np.ndarray],
    runs_b: Sequence[np.ndarray],
    statistic: Statistic = ratio,
    groups=None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> float:
    """Two-sided p that the systems of these runs are interchangeable.

    A group's scores change places in all runs or in none: what one gold persona makes
    easy it makes easy for all of them. It says nothing of runs with other seeds.
    """
    a, b = _paired(runs_a, runs_b, groups)
    swaps = np.random.default_rng(seed).integers(2, size=(resamples, a.shape[1]))
    moved = swaps.astype(np.float64) @ (b - a)  # [S, R, K]
    total_a, total_b = a.sum(axis=1)[:, None], b.sum(axis=1)[:, None]
    seen = abs(np.mean(statistic(total_a) - statistic(total_b)))
    swapped = statistic(total_a + moved) - statistic(total_b - moved)
    at_least = abs(swapped.mean(axis=0)) >= seen - 1e-12 * max(1.0, seen)
    return float((1 + at_least.sum()) * smallest_p(resamples))


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation of single runs; None of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _paired(runs_a, runs_b, groups) -> tuple[np.ndarray, np.ndarray]:
    """Group sums of both: [S, G, K]."""
    a, b = (
        np.stack([group_sums(r, groups) for r in runs]) for runs in (runs_a, runs_b)
    )
    if a.shape != b.shape:
        raise ValueError(
            f"Two systems of {a.shape} and {b.shape} are not paired: give as many runs "
            "of each, with scores of the same instances in the same order."
        )
    return a, b


@functools.lru_cache(maxsize=4)
def _weights(runs: int, resamples: int, seed: int) -> np.ndarray:
    """What each resample gives each run, float64 [R, S], together 1.

    One run less than there are is drawn: drawing S of S would show (S - 1) / S of the
    variance of their mean, a third too little of three (Rao and Wu, 1988).
    """
    if runs == 1:
        return np.ones((resamples, 1))
    rng = np.random.default_rng([seed, runs])
    drawn = rng.multinomial(runs - 1, np.full(runs, 1 / runs), size=resamples)
    return drawn / (runs - 1)
