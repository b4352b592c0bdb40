"""The columns of traits: how much of an inferred persona is right, and what is not.

Of records that `inference.traits` describes; an entry is a column, as in `columns`.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from ppg_jax.report.metric import TRAITS, Answers, Metric
from ppg_jax.report.scores import Score, share


def _ratio(
    right: str, of: Sequence[str], answers: Answers, times: int = 1, gold: bool = True
) -> Score | None:
    """times * right / of, summed over instances; gold: whether gold is compared."""
    if answers.traits is None or (gold and not answers.compared):
        return None
    rows = [[times * r[right], sum(r[n] for n in of)] for r in answers.traits]
    return Score(np.array(rows, np.float64), share)


def _any(name: str, answers: Answers, gold: bool = True) -> Score | None:
    """The share of personas with any such sentence."""
    if answers.traits is None or (gold and not answers.compared):
        return None
    return Score(np.array([r[name] > 0 for r in answers.traits], np.float64))


def _column(
    heading: str,
    better: int,
    definition: str,
    measure: Callable[[Answers], Score | None],
    tested: Sequence[str] = (),
) -> Metric:
    shown = {"personas": TRAITS, "tested": tested, "most": 1}
    return Metric(heading, 3, better, definition, measure, **shown)


TRAIT_METRICS = {
    "trait_f1": _column(
        "trait F1",
        1,
        "2 x right / (sentences inferred + gold sentences) over all instances; right "
        "are pairs of a one-to-one matching whose MiniLM similarity is at least the "
        "threshold (docs/traits.md)",
        functools.partial(_ratio, "right", ("inferred", "said", "unsaid"), times=2),
        tested=("personas",),
    ),
    "trait_precision": _column(
        "trait precision",
        1,
        "right / sentences inferred; what is said twice is right once",
        functools.partial(_ratio, "right", ("inferred",)),
    ),
    "trait_recall": _column(
        "trait recall",
        1,
        "right / gold sentences",
        functools.partial(_ratio, "right", ("said", "unsaid")),
    ),
    "trait_recall_said": _column(
        "recall, said",
        1,
        "the same of gold sentences that the partner has said: half of their content "
        "stems or more occur in the partner's utterances so far",
        functools.partial(_ratio, "right_said", ("said",)),
        tested=("personas",),
    ),
    "trait_recall_unsaid": _column(
        "recall, unsaid",
        1,
        "the same of all others",
        functools.partial(_ratio, "right_unsaid", ("unsaid",)),
        tested=("personas",),
    ),
    "trait_exact_f1": _column(
        "exact F1",
        1,
        "trait F1 where only equal words are right, case and punctuation aside",
        functools.partial(_ratio, "exact", ("inferred", "said", "unsaid"), times=2),
    ),
    "trait_any": _column(
        "any right",
        1,
        "share of personas with a right sentence",
        functools.partial(_any, "right"),
    ),
    "trait_repeated": _column(
        "repeats",
        -1,
        "share of personas that say a sentence twice",
        functools.partial(_any, "repeated", gold=False),
    ),
    "trait_copied": _column(
        "copies self",
        -1,
        "share of sentences inferred that are the speaker's own persona's, word by "
        "word",
        functools.partial(_ratio, "copied", ("inferred",), gold=False),
    ),
    "trait_of_self": _column(
        "like self",
        -1,
        "share of sentences inferred that are like one of the speaker's own and are "
        "not right",
        functools.partial(_ratio, "of_self", ("inferred",), gold=False),
    ),
}
