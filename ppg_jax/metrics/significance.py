"""Intervals and tests, so that a difference in a table can be told from chance.

Everything is resampled in groups: the instances of one dialogue share their personas
and most of their context, and the dialogues of one base persona (`clusters`) a gold
persona, so they are no independent evidence. Runs of one system, which differ in their
seeds and answer the same instances, are a level of their own: an estimate is the mean
over them, groups are drawn in all of them alike, and what runs differ by is added with
Student's quantile, for two or three of them show little of it. A statistic is a
function of sums of per-instance columns (a mean, a perplexity, a corpus BLEU), which
makes a resample one row of a matrix product.

How far to trust an interval of 0.95, measured on PersonaChat's replies: of a ROUGE-L it
covers 0.93 to 0.95 from 100 groups on; of a BLEU, which is skewed, 0.91 with 100 or 120
groups (a difference 0.89 to 0.93) and 0.93 to 0.95 from 320 on. Bias-corrected and
accelerated quantiles (BCa) raise the 0.91 to 0.94, but of a difference they cover no
more, and less where most instances score nothing; so the plain ones stay.
Axes: S runs, N instances, K columns, G groups, R resamples.
"""

import functools
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float


def ratio(sums) -> np.ndarray:
    """sums[..., 0] / sums[..., 1]: the statistic of means and shares."""
    sums = np.asarray(sums, np.float64)
    return sums[..., 0] / sums[..., 1]


Statistic = Callable[[np.ndarray], np.ndarray]  # summed columns [..., K] -> [...]


def bootstrap(
    runs: Sequence[np.ndarray],
    statistic: Statistic = ratio,
    groups=None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval (Efron, 1979) of the mean of a statistic over runs,
    `with_runs`.

    runs: of each run, one or more, scores [N], whose mean is meant, or columns [N, K]
    that `statistic` takes summed. groups: [N] names of the groups that are drawn whole;
    none: each instance alone.
    """
    sums = [group_sums(run, groups) for run in runs]
    draws = draws_of(len(sums[0]), resamples, seed)
    drawn = np.mean([statistic(draws @ each) for each in sums], axis=0)
    single = [float(statistic(each.sum(axis=0))) for each in sums]
    return with_runs(percentiles(np.mean(single), drawn, level), single, level)


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
    """Interval of the mean of statistic(a) - statistic(b), both on the same draws
    (Koehn, 2004), `with_runs`.

    Runs of the two with one number are of one seed; all scores are of the same
    instances in the same order. The other arguments are `bootstrap`'s.
    """
    a, b = _paired(runs_a, runs_b, groups)
    draws = draws_of(a.shape[1], resamples, seed)
    drawn = statistic(draws @ a) - statistic(draws @ b)  # [S, R]
    single = statistic(a.sum(axis=1)) - statistic(b.sum(axis=1))
    interval = percentiles(np.mean(single), drawn.mean(axis=0), level)
    return with_runs(interval, single, level)


def with_runs(interval: Interval, single, level: float = 0.95) -> Interval:
    """The interval of a mean over runs that was found with these runs as they are, so
    wide that it holds for others: either side is the root of the sum of its square and
    that of Student's interval of the runs' values [S]. One run: as it is.
    """
    if len(single) < 2:
        return interval
    error = float(np.std(single, ddof=1)) / math.sqrt(len(single))
    margin = float(stdtrit(len(single) - 1, (1 + level) / 2)) * error
    value, low, high = interval
    low, high = (math.hypot(value - end, margin) for end in (low, high))
    return Interval(value, value - low, value + high)


def paired_permutation(
    runs_a: Sequence[np.ndarray],
    runs_b: Sequence[np.ndarray],
    statistic: Statistic = ratio,
    groups=None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> float:
    """Two-sided p that the systems are interchangeable (approximate randomisation).

    Swaps the systems' scores group by group at random and asks how often the
    difference is at least as large as the one seen: (1 + count) / (1 + resamples), so
    never below `smallest_p` (Noreen, 1989). A group's scores change places in all runs
    or in none: what one gold persona makes easy it makes easy for all of them. It says
    nothing of runs with other seeds. Arguments as in `paired_bootstrap`.
    """
    a, b = _paired(runs_a, runs_b, groups)
    swaps = np.random.default_rng(seed).integers(2, size=(resamples, a.shape[1]))
    moved = swaps.astype(np.float64) @ (b - a)  # [S, R, K]
    total_a, total_b = a.sum(axis=1)[:, None], b.sum(axis=1)[:, None]
    seen = abs(np.mean(statistic(total_a) - statistic(total_b)))
    swapped = statistic(total_a + moved) - statistic(total_b - moved)
    # Neither rounding nor what smoothing adds to a BLEU of nothing breaks a tie.
    at_least = abs(swapped.mean(axis=0)) >= seen - max(1e-12, 1e-6 * seen)
    return float((1 + at_least.sum()) * smallest_p(resamples))


def smallest_p(resamples: int) -> float:
    """The p that `paired_permutation` gives for "at most this"; Holm's multiply it."""
    return 1 / (1 + resamples)


def jackknife(value: float, leave_one_out, level: float = 0.95) -> Interval:
    """Normal interval from the values [G] without each group (Tukey, 1958).

    For a statistic of types and not of sums (Distinct), where it errs on the wide
    side. For a difference of two systems give the difference of both arguments.
    """
    margin = normal_quantile(level) * jackknife_error(leave_one_out)
    return Interval(float(value), float(value - margin), float(value + margin))


def jackknife_p(value: float, leave_one_out) -> float:
    """Two-sided p that a difference is zero; the arguments are `jackknife`'s."""
    error = jackknife_error(leave_one_out)
    if error == 0:
        return float(value == 0)
    return math.erfc(abs(value) / error / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for being several (Holm, 1979), in the order given."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def binomial_p(wins: int, n: int) -> float:
    """Exact two-sided p of `wins` in n fair coin tosses."""
    _check_wins(wins, n)
    tail = sum(math.comb(n, k) for k in range(min(wins, n - wins) + 1))
    return min(1.0, 2 * tail / 2**n)


def share(right, groups=None, level: float = 0.95) -> Interval:
    """The mean of zeros and ones [N] and its score interval, by groups [N].

    Wilson's, with as many independent ones as have the standard error that leaving out
    each group shows (Korn and Graubard, 1998). Unlike a bootstrap's it has a width
    where all are right.
    """
    sums = group_sums(right, groups)
    total = sums.sum(axis=0)
    mean = ratio(total)
    error = jackknife_error(ratio(total - sums))
    if error <= 1e-9:  # groups are all that is known to be independent
        return wilson(mean * len(sums), len(sums), level)
    # What few groups show of their spread is uncertain itself.
    surer = normal_quantile(level) / stdtrit(len(sums) - 1, (1 + level) / 2)
    n = mean * (1 - mean) / error**2 * surer**2
    return wilson(mean * n, n, level)


def wilson(wins: float, n: float, level: float = 0.95) -> Interval:
    """A share wins / n and its score interval (Wilson, 1927)."""
    _check_wins(wins, n)
    z, mean = normal_quantile(level), wins / n
    shrink = 1 + z**2 / n
    middle = (mean + z**2 / (2 * n)) / shrink
    margin = z / shrink * math.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2))
    return Interval(float(mean), float(middle - margin), float(middle + margin))


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation of single runs; None of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def group_sums(scores, groups) -> np.ndarray:
    """Columns summed within each group: [N] or [N, K] -> [G, K]."""
    columns = np.asarray(scores, np.float64)
    if columns.ndim == 1:
        columns = np.stack([columns, np.ones_like(columns)], axis=-1)
    groups = np.arange(len(columns)) if groups is None else np.asarray(groups)
    if len(groups) != len(columns):
        raise ValueError(f"{len(groups)} groups for {len(columns)} instances.")
    names, group_of = np.unique(groups, return_inverse=True)
    _check_several(len(names))
    sums = np.zeros((len(names), columns.shape[-1]))
    np.add.at(sums, group_of, columns)
    return sums


# Every number of a table is resampled alike, and drawing takes longer than summing.
@functools.lru_cache(maxsize=4)
def draws_of(groups: int, resamples: int, seed: int) -> np.ndarray:
    """How often each resample draws each group: float64 [R, G]."""
    rng = np.random.default_rng(seed)
    even = np.full(groups, 1 / groups)
    return rng.multinomial(groups, even, size=resamples).astype(np.float64)


def percentiles(value, values, level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    # Where all values are one number, it may be rounded otherwise.
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def jackknife_error(leave_one_out) -> float:
    values = np.asarray(leave_one_out, np.float64)
    _check_several(len(values))
    return math.sqrt((len(values) - 1) * values.var())


def normal_quantile(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _check_several(groups: int) -> None:
    if groups < 2:
        raise ValueError(
            f"{groups} group of instances shows no spread: give two or more, or "
            "groups=None if the instances are independent."
        )


def _check_wins(wins: float, n: float) -> None:
    if not 0 <= wins <= n or n == 0:
        raise ValueError(f"{wins} wins of {n}: expected 0 <= wins <= n and n > 0.")


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
