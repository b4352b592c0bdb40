"""How varied and how new the generated text is: Distinct-n, lengths, novelty.

Distinct-n is the paper's "ratio of distinct unigrams/bigrams against total number of
unigrams/bigrams generated" over all instances of a test set, repeats counted and
punctuation kept: the one reading that gives the paper's figures for gold personas
(table 4). Axes: N texts, G groups of texts (dialogues).
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

_WORDS = re.compile(r"\w+|[^\w\s]+")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s+|$)")


def word_punct(text: str) -> list[str]:
    """Runs of letters and digits, and runs of punctuation (NLTK's wordpunct)."""
    return _WORDS.findall(text)


def lengths(texts: Sequence[str]) -> np.ndarray:
    """Word-punct tokens of each text: float64 [N]."""
    return np.array([len(word_punct(text)) for text in texts], np.float64)


def distinct(texts: Iterable[str], n: int) -> float:
    """Distinct-n of the texts together: different n-grams over all n-grams, 0 to 1.

    n-grams do not cross from one text into the next. Without any n-gram it is 0.
    """
    ngrams = [ngram for text in texts for ngram in _ngrams(text, n)]
    return len(set(ngrams)) / max(1, len(ngrams))


def intra_distinct(texts: Sequence[str], n: int) -> np.ndarray:
    """Distinct-n within each text: float64 [N]; low where a text repeats itself."""
    return np.array([distinct([text], n) for text in texts], np.float64)


def distinct_leave_one_out(texts: Sequence[str], n: int, groups=None) -> np.ndarray:
    """Distinct-n of all texts but those of one group, for each group: float64 [G].

    What `significance.jackknife` needs. The bootstrap does not suit Distinct: drawing
    a text twice adds n-grams and no different ones. groups [N] names each text's
    group; without it every text is its own. Groups come in sorted order.
    """
    groups = np.arange(len(texts)) if groups is None else np.asarray(groups)
    names, group_of = np.unique(groups, return_inverse=True)
    total = np.zeros(len(names))
    only_in: dict[tuple[str, ...], int] = {}  # n-gram -> its one group, or -1
    for group, text in zip(group_of.tolist(), texts, strict=True):
        for ngram in _ngrams(text, n):
            total[group] += 1
            if only_in.setdefault(ngram, group) != group:
                only_in[ngram] = -1
    owners = np.array([group for group in only_in.values() if group >= 0], np.int64)
    lost = np.bincount(owners, minlength=len(names))
    return (len(only_in) - lost) / np.maximum(1, total.sum() - total)


def novelty_columns(
    profiles: Sequence[str], training_sentences: Iterable[str]
) -> np.ndarray:
    """Of each profile's sentences, how many training never said: float64 [N, 2].

    Columns: sentences that are not verbatim among the training sentences, letter case
    and punctuation aside; sentences. The share of the sums is the novelty; it tells
    whether a persona generator invents or remembers.
    """
    known = {part for text in training_sentences for part in _sentences(text)}
    rows = []
    for profile in profiles:
        sentences = _sentences(profile)
        new = sum(sentence not in known for sentence in sentences)
        rows.append([new, len(sentences)])
    return np.array(rows, np.float64).reshape(-1, 2)


def _ngrams(text: str, n: int) -> Iterable[tuple[str, ...]]:
    words = word_punct(text)
    return zip(*(words[i:] for i in range(n)), strict=False)


def _sentences(text: str) -> list[str]:
    """Sentences without case and punctuation; empty ones are left out."""
    parts = (re.findall(r"\w+", part) for part in _SENTENCE_END.split(text.lower()))
    return [" ".join(part) for part in parts if part]
