"""The columns of a report's tables: what is measured, how, and where it is shown.

A column is one entry of `METRICS`; tables, tests, definitions and report.json follow
from it. Axes: N instances.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ppg_jax.metrics import bleu_rouge, distinct, ppl, significance
from ppg_jax.report.metric import KINDS, MAIN, MORE, Answers, Metric
from ppg_jax.report.scores import Score, Scores, TypeCount, share
from ppg_jax.report.trait_columns import TRAIT_METRICS

# --- How each is measured -----------------------------------------------------


def _perplexity(definition: str, answers: Answers) -> Score | None:
    if answers.nll is None or answers.tokens is None:
        return None
    tokens = np.array(answers.tokens, np.float64)
    cut = 0 if answers.cut is None else np.array(answers.cut, np.float64)
    words = np.array([max(1, len(text.split())) for text in answers.gold], np.float64)
    columns = ppl.columns(answers.nll, tokens, words * tokens / (tokens + cut))
    return Score(columns[definition], ppl.perplexity)


def _overlap(metric: Callable, answers: Answers, statistic=significance.ratio):
    """`metric` of each text and gold; a pair that recurs (a profile does) once."""
    if answers.texts is None or not answers.compared:
        return None
    pairs = list(zip(answers.texts, answers.gold, strict=True))
    rows = {pair: row for row, pair in enumerate(dict.fromkeys(pairs))}
    scored = metric(*zip(*rows, strict=True))
    return Score(scored[[rows[pair] for pair in pairs]], statistic)


def _sacrebleu(answers: Answers) -> Score | None:
    columns = bleu_rouge.sacre_bleu_columns
    return _overlap(columns, answers, bleu_rouge.sacre_bleu_of)


def _rouge(variant: str, answers: Answers) -> Score | None:
    return _overlap(lambda *texts: bleu_rouge.rouge_l(*texts, variant), answers)


def _distinct(n: int, answers: Answers) -> TypeCount | None:
    return None if answers.texts is None else TypeCount(answers.texts, n)


def _of_each(metric: Callable, answers: Answers) -> Score | None:
    """A metric of the texts alone."""
    return None if answers.texts is None else Score(metric(answers.texts))


def _novelty(answers: Answers) -> Score | None:
    if answers.texts is None:
        return None
    known = distinct.novelty_columns(answers.texts, answers.training_sentences)
    return Score(known, share)  # personas of nothing have no sentence


def _mean(values: Sequence[float] | None) -> Score | None:
    return None if values is None else Score(np.array(values, np.float64))


def _mean_of_told(values: Sequence[float | None]) -> Score | None:
    """The mean of what there is; None where there is nothing."""
    pairs = [(value or 0.0, value is not None) for value in values]
    some = any(there for _, there in pairs)
    return Score(np.array(pairs, np.float64), share) if some else None


# --- All of them, in the order of the tables ----------------------------------

METRICS = {
    "ppl_token": Metric(
        "PPL",
        2,
        -1,
        "exp(sum of NLL / sum of tokens) of the gold text, end token counted (ParlAI)",
        functools.partial(_perplexity, "token"),
        responses=MAIN,
        personas=MAIN,
        tested=KINDS,
    ),
    "ppl_sequence": Metric(
        "PPL, per sequence",
        2,
        -1,
        "exp(mean over instances of NLL per token) (DialoGPT's repository)",
        functools.partial(_perplexity, "sequence"),
        responses=MORE,
        personas=MORE,
    ),
    "ppl_word": Metric(
        "PPL, per word",
        1,
        -1,
        "exp(sum of NLL / sum of whitespace words), comparable across vocabularies; an "
        "empty text counts as a word, of one that was cut its part",
        functools.partial(_perplexity, "word"),
        responses=MORE,
        personas=MORE,
    ),
    "bleu": Metric(
        "BLEU-4",
        3,
        1,
        "ParlAI's bleu-4 x 100, the mean over instances of smoothed sentence BLEU on "
        'normalised text; the paper\'s "weighted BLEU"',
        functools.partial(_overlap, bleu_rouge.parlai_bleu),
        responses=MAIN,
        personas=MAIN,
        tested=KINDS,
        most=100,
    ),
    "sacrebleu": Metric(
        "sacreBLEU",
        2,
        1,
        "corpus BLEU, 0 to 100",
        _sacrebleu,
        responses=MORE,
        personas=MORE,
        most=100,
    ),
    "rouge_parlai": Metric(
        "ROUGE-L",
        2,
        1,
        "F1 of the longest common subsequence x 100, Porter stems (py-rouge's words)",
        functools.partial(_rouge, "parlai-f"),
        responses=MAIN,
        personas=MAIN,
        tested=KINDS,
        most=100,
    ),
    "rouge_google": Metric(
        "ROUGE-L, google",
        2,
        1,
        "the same without stemming (rouge-score)",
        functools.partial(_rouge, "google"),
        responses=MORE,
        personas=MORE,
        most=100,
    ),
    "f1": Metric(
        "F1",
        2,
        1,
        "F1 of the bags of normalised words x 100 (ParlAI)",
        functools.partial(_overlap, bleu_rouge.token_f1),
        responses=MAIN,
        tested=("responses",),
        most=100,
    ),
    "distinct_1": Metric(
        "Distinct-1",
        4,
        0,
        "different words over all words of all instances, punctuation kept; "
        "jackknife interval",
        functools.partial(_distinct, 1),
        responses=MORE,
        personas=MAIN,
        most=1,
    ),
    "distinct_2": Metric(
        "Distinct-2",
        4,
        0,
        "the same for pairs of words",
        functools.partial(_distinct, 2),
        responses=MORE,
        personas=MAIN,
        tested=("personas",),
        most=1,
    ),
    "intra_distinct_2": Metric(
        "Distinct-2 within",
        3,
        0,
        "mean of Distinct-2 within each persona",
        functools.partial(_of_each, lambda texts: distinct.intra_distinct(texts, 2)),
        personas=MORE,
        most=1,
    ),
    "novelty": Metric(
        "novelty",
        3,
        0,
        "share of sentences that no training persona has verbatim",
        _novelty,
        personas=MORE,
        most=1,
    ),
    "length": Metric(
        "words",
        1,
        0,
        "mean length in words and punctuation marks",
        functools.partial(_of_each, distinct.lengths),
        responses=MORE,
        personas=MORE,
    ),
    "ended": Metric(
        "ended",
        3,
        0,
        "share that ended by themselves, not at the limit",
        lambda answers: _mean(answers.ended),
        personas=MORE,
        most=1,
    ),
    "critic": Metric(
        "critic",
        3,
        0,
        "mean P(related) of the response to the partner persona that the system was "
        "told, where it was told one; of the controls, to the gold one",
        lambda answers: _mean_of_told(answers.critic),
        responses=MAIN,
        most=1,
    ),
    "held_out_critic": Metric(
        "held-out critic",
        3,
        0,
        "the same of a critic that learned of other training dialogues and paid "
        "nobody: what raises the first alone is no better response",
        lambda answers: _mean_of_told(answers.held_out),
        responses=MAIN,
        most=1,
    ),
    **TRAIT_METRICS,
}


PER = {"ppl_token": "perplexity per token", "ppl_word": "perplexity per word"}


def comparable_perplexity(systems: Mapping[str, dict]) -> str:
    """The perplexity by which these rows compare: per token, or per word where they cut
    words into other tokens.  systems: rows with their "metrics", as in report.json."""
    cut = [
        math.log(m["ppl_word"]["value"]) / math.log(m["ppl_token"]["value"])
        for system in systems.values()
        for m in [system["metrics"]]
        if "ppl_word" in m and m["ppl_token"]["value"] > 1
    ]
    return "ppl_word" if cut and max(cut) > 1.05 * min(cut) else "ppl_token"


def shown(kind: str, where: str) -> list[str]:
    """The metrics of a table: `MAIN`, `MORE` or `TRAITS` of a kind of rows."""
    return [key for key, metric in METRICS.items() if metric.shown(kind) == where]


def tested(kind: str) -> list[str]:
    return [key for key, metric in METRICS.items() if kind in metric.tested]


def measured(kind: str, answers: Answers) -> Scores:
    """Every metric of this kind of rows that the answers allow."""
    scores = {
        key: metric.measure(answers)
        for key, metric in METRICS.items()
        if metric.shown(kind)
    }
    return {key: score for key, score in scores.items() if score is not None}
