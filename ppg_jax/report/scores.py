"""One number of one row: its value, its interval, and its difference from another's.

A metric is a statistic of summed per-instance columns, so each gets its interval and
its test from the same few lines; Distinct, which counts types, gets them from the
jackknife. Axes: N instances, K columns, G groups.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ppg_jax.metrics import distinct, significance
from ppg_jax.metrics.significance import Interval

SEED = 0
RESAMPLES = 1000
PERMUTATIONS = 4999  # enough for the smallest p to survive Holm over 30 tests
ALPHA = 0.05  # p below it counts
LEVEL = 1 - ALPHA
NOTHING = 1e-4  # of a value; less is rounding
Units = Mapping[str, np.ndarray]  # what is resampled: name -> group of each instance


def drawn() -> dict:
    """How an interval is drawn."""
    return {"resamples": RESAMPLES, "seed": SEED, "level": LEVEL}


class Score(NamedTuple):
    """One metric of one row: columns [N, K] or values [N], and what they mean."""

    columns: np.ndarray
    statistic: significance.Statistic = significance.ratio

    permuted = True  # p has a floor, that of `PERMUTATIONS`

    @property
    def value(self) -> float:
        columns = self.columns
        if columns.ndim == 1:
            columns = np.stack([columns, np.ones_like(columns)], axis=-1)
        return float(self.statistic(columns.sum(axis=0)))

    def of(self, rows: np.ndarray) -> "Score":
        """The same metric of some of the instances."""
        return self._replace(columns=self.columns[rows])

    def interval(self, groups: np.ndarray) -> Interval:
        return significance.bootstrap([self.columns], self.statistic, groups, **drawn())

    def minus(self, other: "Score", groups: np.ndarray) -> tuple[Interval, float]:
        """The difference of two rows, and the p of there being none."""
        paired = ([self.columns], [other.columns], self.statistic, groups)
        difference = significance.paired_bootstrap(*paired, **drawn())
        p = significance.paired_permutation(*paired, resamples=PERMUTATIONS, seed=SEED)
        return difference, p


@dataclasses.dataclass(frozen=True)
class TypeCount:
    """A metric that counts different n-grams: those of the texts, over all of them."""

    texts: Sequence[str]
    n: int
    permuted = False

    @functools.cached_property
    def value(self) -> float:
        return distinct.distinct(self.texts, self.n)

    def interval(self, groups: np.ndarray) -> Interval:
        return significance.jackknife(self.value, self.without(groups), LEVEL)

    def minus(self, other: "TypeCount", groups: np.ndarray) -> tuple[Interval, float]:
        """As `Score.minus`."""
        value = self.value - other.value
        without = self.without(groups) - other.without(groups)
        difference = significance.jackknife(value, without, LEVEL)
        return difference, significance.jackknife_p(value, without)

    def without(self, groups: np.ndarray) -> np.ndarray:
        """The values without each group [G]."""
        return distinct.distinct_leave_one_out(self.texts, self.n, groups)


Scores = dict[str, Score | TypeCount]


def widest(score: Score | TypeCount, units: Units) -> dict:
    """{value, low, high, unit}: the widest of the intervals over each unit."""
    intervals = {name: score.interval(groups) for name, groups in units.items()}
    unit = max(intervals, key=lambda name: intervals[name].high - intervals[name].low)
    return {**intervals[unit]._asdict(), "unit": unit}


def compared(a: Score | TypeCount, b: Score | TypeCount, units: Units) -> dict:
    """Their difference by each unit; told are the wider interval and the larger p.

    at_floor: that more permutations could only lower p. equal: that nothing but
    rounding is between the two.
    """
    found = [(side, *a.minus(b, groups)) for side, groups in units.items()]
    side, difference, _ = max(found, key=lambda each: each[1].high - each[1].low)
    p = max(p for _, _, p in found)
    floor = significance.smallest_p(PERMUTATIONS)
    at_floor = a.permuted and math.isclose(p, floor)
    told = {**difference._asdict(), "unit": side}
    most = max(map(abs, difference))
    equal = most <= NOTHING * abs(b.value)
    return {"difference": told, "p": p, "at_floor": at_floor, "equal": equal}


def corrected(tests: Sequence[dict]) -> None:
    """Adds `p_holm` to tests that are made together (Holm), and whether it is a bound.

    holm_at_floor: with more permutations it may be less.
    """
    adjusted = significance.holm([test["p"] for test in tests])
    least = significance.holm([0.0 if t["at_floor"] else t["p"] for t in tests])
    for test, p, lower in zip(tests, adjusted, least, strict=True):
        test |= {"p_holm": p, "holm_at_floor": lower < p}


def share(sums) -> np.ndarray:
    """sums[..., 0] / sums[..., 1], counts that may be none: 0 of 0 is 0."""
    sums = np.asarray(sums, np.float64)
    return sums[..., 0] / np.maximum(sums[..., 1], 1)
