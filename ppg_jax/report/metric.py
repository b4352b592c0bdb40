"""What a column is, and what it is measured from.  Axes: N instances."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from ppg_jax.report.scores import Score, TypeCount

KINDS = ("responses", "personas")
MAIN, MORE, TRAITS = "main", "more", "traits"  # tables


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a row answered, as far as its records say: [N] each, or None."""

    gold: Sequence[str]
    training_sentences: Sequence[str]
    texts: Sequence[str] | None = None
    nll: Sequence[float] | None = None
    tokens: Sequence[int] | None = None
    cut: Sequence[int] | None = None  # further ones, that `nll` does not count
    critic: Sequence[float | None] = ()  # None where no persona was told
    held_out: Sequence[float | None] = ()  # of the other critic
    ended: Sequence[bool] | None = None
    traits: Sequence[dict] | None = None  # counts, as `inference.traits` has them
    compared: bool = True  # with gold: texts that are gold say nothing by that


@dataclasses.dataclass(frozen=True)
class Metric:
    """One column: heading, digits, meaning, and where it stands.

    better: 1 if higher is better, -1 if lower is, 0 if neither. measure: None where
    the answers do not allow it. responses, personas: the table that shows it, `MAIN`,
    `MORE` or `TRAITS`, or "" if it is not measured there. tested: kinds of rows, as in
    `KINDS`. most: what it can be at most; none is less than 0.
    """

    heading: str
    digits: int
    better: int
    definition: str
    measure: Callable[[Answers], Score | TypeCount | None]
    responses: str = ""
    personas: str = ""
    tested: Sequence[str] = ()
    most: float = math.inf

    def possible(self, found: dict) -> dict:
        """The same estimate, its interval within what the metric can be."""
        low, high = max(found["low"], 0.0), min(found["high"], self.most)
        return found | {"low": low, "high": high}

    def shown(self, kind: str) -> str:
        """The table of this kind of rows that shows it, or ""."""
        return {"responses": self.responses, "personas": self.personas}[kind]
