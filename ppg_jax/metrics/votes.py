"""What people's choices between two answers show, item by item and rater by rater.

Votes of one item are no independent evidence, nor are those of one rater: the test is
of items, each counted by its majority, and the interval draws items and raters.

Axes: V votes, I items, R raters.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppg_jax.metrics.significance import Interval, binomial_p, percentiles, wilson


class Votes(NamedTuple):
    """Who chose what: [V] each. Names of items and raters may be of any kind."""

    items: Sequence
    raters: Sequence
    won: Sequence[bool]  # whether the answer that is asked about was chosen


class Sign(NamedTuple):
    """Items by their majority, and the exact two-sided sign test without the ties."""

    wins: int
    losses: int
    ties: int
    p: float


def sign_test(votes: Votes) -> Sign:
    """Raises ValueError without any vote."""
    _, item = np.unique(np.asarray(votes.items), return_inverse=True)
    if not len(item):
        raise ValueError("There are no votes.")
    margin = np.bincount(item, weights=2.0 * np.asarray(votes.won) - 1)
    wins, losses = int((margin > 0).sum()), int((margin < 0).sum())
    p = binomial_p(wins, wins + losses) if wins + losses else 1.0
    return Sign(wins, losses, len(margin) - wins - losses, p)


def share(
    votes: Votes, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The share of votes that it won, and the interval over items and raters, each
    drawn with replacement, independently (Owen, 2007, the pigeonhole bootstrap). Where
    all votes are alike no draw differs, and it is Wilson's of the items.
    """
    if len({*votes.won}) == 1:
        items = len({*votes.items})
        return wilson(items * float(votes.won[0]), items, level)
    rng, won = np.random.default_rng(seed), np.asarray(votes.won, np.float64)
    weights = np.ones((resamples, len(won)))
    for names in (votes.items, votes.raters):
        known, of = np.unique(np.asarray(names), return_inverse=True)
        if len(known) > 1:
            even = np.full(len(known), 1 / len(known))
            weights *= rng.multinomial(len(known), even, size=resamples)[:, of]
    total = weights.sum(axis=1)
    drawn = (weights @ won)[total > 0] / total[total > 0]
    return percentiles(won.mean(), drawn, level)


def fleiss_kappa(votes: Votes) -> float | None:
    """Agreement beyond chance (Fleiss, 1971), of the items with two votes or more, each
    with as many as it has; None where all chose alike everywhere, or no item has two.
    """
    _, item = np.unique(np.asarray(votes.items), return_inverse=True)
    won = np.bincount(item, weights=np.asarray(votes.won, np.float64))
    count = np.bincount(item)
    won, count = won[count > 1], count[count > 1]
    if not len(count):
        return None
    chance = won.sum() / count.sum()
    expected = chance**2 + (1 - chance) ** 2
    if expected == 1:
        return None
    lost = count - won
    agreed = (won * (won - 1) + lost * (lost - 1)) / (count * (count - 1))
    return float((agreed.mean() - expected) / (1 - expected))


@functools.cache
def power(items: int, share: float, level: float = 0.05) -> float:
    """How often the sign test of so many items finds a true share of wins."""
    wins = np.arange(items + 1)
    found = np.array([binomial_p(int(w), items) <= level for w in wins])
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, items + 1)))])
    log_choose = logs[items] - logs - logs[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = log_choose + wins * np.log(share) + (items - wins) * np.log1p(-share)
    return float(np.exp(log_p[found]).sum())


def detectable(items: int, power_: float = 0.8, level: float = 0.05) -> float | None:
    """The smallest share of wins, in hundredths, that is found with that power; None:
    none is."""
    shares = (round(0.5 + hundredth / 100, 2) for hundredth in range(1, 50))
    return next((s for s in shares if power(items, s, level) >= power_), None)
