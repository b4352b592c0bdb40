"""Is anything inferred, and is it used: traits by turn, and what is swapped.

Turns are counted in exchanges heard: how much the partner has said so far.
Axes: N instances, S those of them that were asked with something swapped.
"""

from collections.abc import Mapping

import numpy as np

from ppg_jax.metrics import ppl
from ppg_jax.report.predictions import Predictions
from ppg_jax.report.scores import (
    Score,
    Scores,
    Units,
    compared,
    corrected,
    share,
    widest,
)
from ppg_jax.report.trait_columns import TRAIT_METRICS

MOST = 8  # exchanges; more are counted with them
LATE = 4  # exchanges from which on a partner has said enough to be known
ALL, FROM_LATE = "all", f"{LATE} or more"
HEARD = (*map(str, range(1, MOST)), f"{MOST} or more", ALL)
CURVES = ("trait_f1", "trait_recall_said", "trait_recall_unsaid")


def heard(predictions: Predictions) -> np.ndarray:
    """Utterances of the partner so far: int [N]."""
    return np.array([(len(i["context"]) + 1) // 2 for i in predictions.instances])


def turns(exchanges: np.ndarray) -> dict[str, np.ndarray]:
    """Which instances belong to each of `HEARD`, and to the late ones: bool [N]."""
    one = {str(n): exchanges == n for n in range(1, MOST)}
    rest = {HEARD[MOST - 1]: exchanges >= MOST, FROM_LATE: exchanges >= LATE}
    return one | rest | {ALL: exchanges >= 0}


def compute(
    predictions: Predictions, rows: Mapping[str, Scores], units: Units
) -> dict[str, dict]:
    """{"by_turn": ..., "said": ...}; {} without any traits.

    by_turn: {curve: {row: {turn: {value, low, high, unit, instances}}}}. said: {turn:
    the same, the share of gold sentences that partners have said}.
    """
    if not predictions.traits:
        return {}
    chosen = turns(heard(predictions))
    by_turn = {
        key: {
            name: _by_turn(metrics[key], units, chosen, TRAIT_METRICS[key].possible)
            for name, metrics in rows.items()
            if key in metrics
        }
        for key in CURVES
    }
    counts = next(iter(predictions.traits.values()))
    said = [[r["said"], r["said"] + r["unsaid"]] for r in counts]
    return {
        "by_turn": by_turn,
        "said": _by_turn(Score(np.array(said, np.float64), share), units, chosen),
    }


def _by_turn(score: Score, units: Units, chosen, possible=dict) -> dict[str, dict]:
    return {
        turn: possible(widest(score.of(taken), part)) | {"instances": int(taken.sum())}
        for turn, taken in chosen.items()
        for part in [_part(units, taken)]
        if _several(part)
    }


def _part(units: Units, taken: np.ndarray) -> Units:
    return {side: groups[taken] for side, groups in units.items()}


def _several(units: Units) -> bool:
    """Whether there are groups to resample."""
    return all(len(np.unique(groups)) > 1 for groups in units.values())


def swapped(predictions: Predictions, kind: str, units: Units) -> dict[str, dict]:
    """Perplexity of the gold answer given its own, and what is a stranger's, by turn.

    {row: {"rows": [...], "by_turn": {turn: {own, other, difference, p, at_floor,
    instances}}}}; rows are all that have these numbers, as of the same model. The
    difference is own - other in nats a token. `p_holm` and `holm_at_floor` are of
    "all" and of the late ones, corrected over what is shown.
    """
    row_of = {i["id"]: n for n, i in enumerate(predictions.instances)}
    exchanges, found = heard(predictions), {}
    for names, records in _alike(predictions.swapped.get(kind, {})):
        # What was cut on one side alone cannot be compared.
        pairs = ((r, r.get("tokens_other", r["tokens"])) for r in records)
        records = [r for r, other in pairs if r["tokens"] == other]
        rows = np.array([row_of[record["id"]] for record in records], np.int64)
        part = _part(units, rows)
        points = {
            turn: _swapped(records, part, taken)
            for turn, taken in turns(exchanges[rows]).items()
            if _several(_part(part, taken))
        }
        if points:
            found[names[0]] = {"rows": names, "by_turn": points}
    tables = [row["by_turn"] for row in found.values()]
    for turn in (ALL, FROM_LATE):  # sentences are made of these
        corrected([points[turn] for points in tables if turn in points])
    return found


def _alike(rows: Mapping[str, list[dict]]) -> list[tuple[list[str], list[dict]]]:
    """Rows with the same records together."""
    groups: list[tuple[list[str], list[dict]]] = []
    for name, records in rows.items():
        for names, known in groups:
            if records == known:
                names.append(name)
                break
        else:
            groups.append(([name], records))
    return groups


def _swapped(records, units: Units, taken: np.ndarray) -> dict:
    units = _part(units, taken)
    own, other = (
        np.array([[r[nll], r["tokens"]] for r in records], np.float64)[taken]
        for nll in ("nll", "nll_other")
    )
    perplexity = {
        "own": widest(Score(own, ppl.perplexity), units),
        "other": widest(Score(other, ppl.perplexity), units),
    }
    difference = compared(Score(own), Score(other), units)
    return {**perplexity, **difference, "instances": int(taken.sum())}
