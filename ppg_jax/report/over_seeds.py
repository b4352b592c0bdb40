"""The numbers of several runs of one config, with different seeds, as one table's.

Runs are a level of their own: a value is the mean over them, an interval that of base
personas and of runs together (`significance.with_runs`), and beside it stands their
standard deviation.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppg_jax.errors import UserError
from ppg_jax.metrics import significance
from ppg_jax.metrics.significance import Interval
from ppg_jax.report import results, scores, traits
from ppg_jax.report.predictions import TEXTS, Predictions, read
from ppg_jax.report.scores import Score, TypeCount


@dataclasses.dataclass(frozen=True)
class OverSeeds:
    """One metric of one row, of each run: sums of columns."""

    scores: Sequence[Score]
    permuted = True

    @property
    def value(self) -> float:
        return float(np.mean([score.value for score in self.scores]))

    @property
    def spread(self) -> float | None:
        return significance.spread([score.value for score in self.scores])

    def of(self, rows: np.ndarray) -> "OverSeeds":
        """The same metric of some of the instances."""
        return OverSeeds([score.of(rows) for score in self.scores])

    def interval(self, groups: np.ndarray) -> Interval:
        return significance.bootstrap(
            self._columns, self.scores[0].statistic, groups, **scores.drawn()
        )

    def minus(self, other: "OverSeeds", groups: np.ndarray) -> tuple[Interval, float]:
        """As `Score.minus`; the p is of these runs."""
        paired = self._columns, other._columns, self.scores[0].statistic, groups
        difference = significance.paired_bootstrap(*paired, **scores.drawn())
        options = {"resamples": scores.PERMUTATIONS, "seed": scores.SEED}
        return difference, significance.paired_permutation(*paired, **options)

    @property
    def _columns(self) -> list[np.ndarray]:
        return [score.columns for score in self.scores]


@dataclasses.dataclass(frozen=True)
class TypesOverSeeds:
    """As `OverSeeds`, of a metric that counts different n-grams in each run."""

    counts: Sequence[TypeCount]
    permuted = False

    @property
    def value(self) -> float:
        return float(np.mean([count.value for count in self.counts]))

    @property
    def spread(self) -> float | None:
        return significance.spread([count.value for count in self.counts])

    def interval(self, groups: np.ndarray) -> Interval:
        without = np.mean([count.without(groups) for count in self.counts], axis=0)
        interval = significance.jackknife(self.value, without, scores.LEVEL)
        single = [count.value for count in self.counts]
        return significance.with_runs(interval, single, scores.LEVEL)

    def minus(
        self, other: "TypesOverSeeds", groups: np.ndarray
    ) -> tuple[Interval, float]:
        """As `Score.minus`; the p is of these runs."""
        pairs = list(zip(self.counts, other.counts, strict=True))
        differences = [a.value - b.value for a, b in pairs]
        without = np.mean([a.without(groups) - b.without(groups) for a, b in pairs], 0)
        value = self.value - other.value
        p = significance.jackknife_p(value, without)
        interval = significance.jackknife(value, without, scores.LEVEL)
        return significance.with_runs(interval, differences, scores.LEVEL), p


def compute(folders: Sequence[Path], with_paper: bool) -> dict:
    """Tables, tests, turns and traits of `results.compute`, over these run directories.

    Rows are those that all of them have. Each metric has a "spread", too, None of one
    run. Raises UserError where a folder holds no evaluation, or one of other instances.
    """
    found = [read(folder) for folder in folders]
    _require_same(found, folders)
    first = found[0]
    version = first.made_of.get("data.version", "original") if with_paper else ""
    numbers = {"runs": len(found), "instances": len(first.instances)}
    numbers["split"] = first.made_of.get("split", "test")
    numbers["units"] = results.units_told(first)
    for kind in TEXTS:
        units = results.units_of(first, kind)
        rows = _rows(found, kind)
        numbers[kind] = results.table(first, kind, rows, units, version)
        for name, row in numbers[kind].items():
            for key, measured in row["metrics"].items():
                measured["spread"] = rows[name][key].spread
        numbers[f"{kind[:-1]}_tests"] = results.compare(first, kind, rows, units)
        if kind == "personas":
            numbers["traits"] = traits.compute(first, rows, units)
        if kind == "responses":
            chosen = traits.turns(traits.heard(first))
            shown = {turn: chosen[turn] for turn in traits.HEARD}
            by_turn = results.perplexity_by_turn(first, rows, units, shown)
            numbers["perplexity_by_turn"] = by_turn
    return numbers


def _require_same(found: Sequence[Predictions], folders: Sequence[Path]) -> None:
    for other, folder in zip(found[1:], folders[1:], strict=True):
        if [i["id"] for i in other.instances] != [i["id"] for i in found[0].instances]:
            raise UserError(
                f"{folder}: was asked other instances than {folders[0]}; evaluate both "
                "with the same data, split and max_dialogues."
            )


def _rows(found: Sequence[Predictions], kind: str) -> dict:
    """{row: {metric: over all runs}} of the rows that all runs have."""
    measured = functools.partial(results.row_scores, kind=kind)
    names = [n for n in found[0].rows[kind] if all(n in p.rows[kind] for p in found)]
    rows = {}
    for name in names:
        each = [measured(p, name=name) for p in found]
        keys = [key for key in each[0] if all(key in scores_ for scores_ in each)]
        rows[name] = {key: _over([scores_[key] for scores_ in each]) for key in keys}
    return rows


def _over(single: Sequence[Score | TypeCount]) -> OverSeeds | TypesOverSeeds:
    kind = TypesOverSeeds if isinstance(single[0], TypeCount) else OverSeeds
    return kind(single)
