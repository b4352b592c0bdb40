"""Word overlap with the reference: BLEU, ROUGE-L and F1, all times 100.

"Weighted BLEU" in the paper must be ParlAI's bleu-4: under corpus BLEU a constant
reply beats every system of its table 1. Its ROUGE is ROUGE-L's F-measure. Scores come
per example, so that they can be resampled; sacreBLEU, which has no such form, comes as
counts per example. Axes: N examples.
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rouge_score import tokenize as rouge_tokenize
from sacrebleu.metrics import BLEU

_PUNCTUATION = re.compile(r"[!\"#$%&()*+,\-./:;<=>?@\[\]\\^`{|}~_']")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


# The metrics of a table normalise the same texts again and again.
@functools.lru_cache(maxsize=2**15)
def normalize_answer(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces (ParlAI's metrics.py)."""
    text = _PUNCTUATION.sub(" ", text.lower())
    return " ".join(_ARTICLES.sub(" ", text).split())


# --- BLEU ---------------------------------------------------------------------


def parlai_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """ParlAI's bleu-4 times 100, per example: float64 [N]; a system's is the mean.

    An exact match of fewer than four words scores next to nothing (one word: 1e-7),
    for it has no 4-gram. ParlAI does the same, and so do published numbers.
    """
    return np.array(
        [
            100 * _sentence_bleu(hypothesis, reference)
            for hypothesis, reference in _pairs(hypotheses, references)
        ],
        np.float64,
    )


def _sentence_bleu(hypothesis: str, reference: str) -> float:
    # nltk takes a second to import: as long as it is not needed, nobody waits for it.
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    # split(" ") and not split(): an empty text is one empty word, as in ParlAI.
    return sentence_bleu(
        [normalize_answer(reference).split(" ")],
        normalize_answer(hypothesis).split(" "),
        weights=(0.25, 0.25, 0.25, 0.25),
        smoothing_function=SmoothingFunction(epsilon=1e-12).method1,
    )


class CorpusBleu(NamedTuple):
    """A sacreBLEU score, 0 to 100, and the signature that makes it comparable."""

    score: float
    signature: str


def sacre_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> CorpusBleu:
    """sacreBLEU's corpus BLEU with its defaults, on the text as it is."""
    _check_pairs(hypotheses, references)
    # `force` spares the warning that the text is tokenized: PersonaChat's is.
    bleu = BLEU(force=True)
    score = bleu.corpus_score(list(hypotheses), [list(references)]).score
    return CorpusBleu(score, str(bleu.get_signature()))


def sacre_bleu_columns(
    hypotheses: Sequence[str], references: Sequence[str]
) -> np.ndarray:
    """What sacreBLEU counts, per example: float64 [N, 10], to be summed.

    Hypothesis and reference length, 1- to 4-gram matches, 1- to 4-gram totals.
    """
    bleu = BLEU(effective_order=True)  # asked for by sentence_score; same counts
    scores = (
        bleu.sentence_score(hypothesis, [reference])
        for hypothesis, reference in _pairs(hypotheses, references)
    )
    rows = [[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores]
    return np.array(rows, np.float64).reshape(-1, 10)


def sacre_bleu_of(sums) -> np.ndarray:
    """`sacre_bleu`'s score from summed columns: [..., 10] -> [...]."""

    def score(row):
        hypothesis_length, reference_length, *counts = (round(x) for x in row)
        return BLEU.compute_bleu(
            counts[:4],
            counts[4:],
            hypothesis_length,
            reference_length,
            smooth_method="exp",
        ).score

    return np.apply_along_axis(score, -1, np.asarray(sums, np.float64))


# --- ROUGE-L ------------------------------------------------------------------

# The two presets differ in how they cut and stem words, never in the formula.
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]")
# Treebank's contractions that survive the removal of all but letters and digits;
# "cannot", which Treebank cuts too, py-rouge keeps whole.
_CONTRACTIONS = re.compile(
    r"\b(gim(?=me\b)|gon(?=na\b)|got(?=ta\b)|lem(?=me\b)|wan(?=na\b))"
)
_BYTE_LIMIT = 665


@functools.cache
def _stem(word: str) -> str:
    return _porter().stem(word)


@functools.cache
def _porter():
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer("ORIGINAL_ALGORITHM")


def _py_rouge_words(text: str) -> list[str]:
    """py-rouge 1.1's words, but for its table of irregular forms (went -> go).

    That table, 6,067 lines from WordNet, moves the mean on PersonaChat by 0.05
    points, which is not worth carrying it.
    """
    text = _NOT_ALPHANUMERIC.sub(" ", text[:_BYTE_LIMIT].lower())
    words = _CONTRACTIONS.sub(r"\1 ", text).split()
    long = (len(word) > 3 for word in words)
    return [
        _stem(word) if stems else word for word, stems in zip(words, long, strict=True)
    ]


_ROUGE_WORDS = {
    "google": functools.partial(rouge_tokenize.tokenize, stemmer=None),
    "parlai-f": _py_rouge_words,
}


def rouge_l(
    hypotheses: Sequence[str], references: Sequence[str], preset: str = "google"
) -> np.ndarray:
    """ROUGE-L F1 times 100 on normalised text, per example: float64 [N].

    preset: `google` (the rouge-score package, without stems) or `parlai-f` (F1 in place
    of the recall that ParlAI takes from py-rouge: original Porter stems, 665 bytes at
    most). An empty side scores 0 (Lin, 2004).
    """
    if preset not in _ROUGE_WORDS:
        raise ValueError(
            f"No ROUGE-L preset {preset!r}; there are {tuple(_ROUGE_WORDS)}."
        )
    words = _ROUGE_WORDS[preset]
    scores = []
    for pair in _pairs(hypotheses, references):
        hypothesis, reference = (words(normalize_answer(text)) for text in pair)
        common = _longest_common_subsequence(hypothesis, reference)
        scores.append(_f1(common, len(hypothesis), len(reference)))
    return np.array(scores, np.float64)


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Its length; a row of the usual table is the bits of an int (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    row = full = (1 << len(a)) - 1
    for word in b:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(a) - row.bit_count()


# --- F1 -----------------------------------------------------------------------


def token_f1(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """F1 of the two bags of normalised words times 100, per example: float64 [N].

    ParlAI's F1Metric, ConvAI2's F1. An empty side scores 0.
    """
    scores = []
    for pair in _pairs(hypotheses, references):
        hypothesis, reference = (normalize_answer(text).split() for text in pair)
        common = (Counter(hypothesis) & Counter(reference)).total()
        scores.append(_f1(common, len(hypothesis), len(reference)))
    return np.array(scores, np.float64)


def _f1(common: int, hypothesis_length: int, reference_length: int) -> float:
    """Harmonic mean of precision and recall, times 100."""
    if common == 0:
        return 0.0
    return 200 * common / (hypothesis_length + reference_length)


def _pairs(hypotheses: Sequence[str], references: Sequence[str]):
    _check_pairs(hypotheses, references)
    return zip(hypotheses, references, strict=True)


def _check_pairs(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses for {len(references)} references: "
            "give one hypothesis per reference, in the same order."
        )
