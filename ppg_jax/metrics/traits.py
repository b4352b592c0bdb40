"""Which sentences of an inferred persona are right: traits against traits, one to one.

A trait is a sentence of a persona. Whether two sentences are the same trait is told by
a matrix of similarities and a threshold; each sentence of either side is used once, so
a sentence that is said three times is right once.

Axes: P inferred sentences, G gold sentences.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

_WORDS = re.compile(r"\w+")
# A sentence has them whatever it is about. Verbs like "love" and "work" are none.
_FUNCTION_WORDS = frozenset(
    _WORDS.findall("""
    a about after again all also always am an and any are as at be because been
    before being but by can could d did do does doing don down each even ever every
    few for from get got had has have having he her here hers him his how i if in
    into is it its just ll lot lots m many me more most much my myself no not now of
    off often on one only or other our out over own quite re really s same she so
    some such t than that the their them then there these they this those through to
    too until up us ve very was we were what when where which while who whom why
    will with would you your yours
    """)
)


def plain(sentence: str) -> str:
    """Letter case, spaces and punctuation taken away: equal texts match exactly."""
    return " ".join(_WORDS.findall(sentence.lower()))


def matched(similarity: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """The pairs of a one-to-one matching of [P, G], by inferred sentence.

    As many pairs as possible that are at least `threshold` alike; of all such
    matchings the one with the largest sum of similarities.
    """
    similarity = np.asarray(similarity, np.float64)
    if not similarity.size:
        return []
    close = similarity >= threshold
    # Another pair must be worth more than any gain in similarity (at most 1 - -1 each).
    bonus = 1 + 2 * min(similarity.shape)
    pairs = zip(
        *linear_sum_assignment(np.where(close, bonus + similarity, 0), maximize=True),
        strict=True,
    )
    return [(int(p), int(g)) for p, g in pairs if close[p, g]]


def exact(inferred: Sequence[str], gold: Sequence[str]) -> np.ndarray:
    """Similarities [P, G] of 1 where two sentences are `plain`ly equal, else 0."""
    ours, theirs = [plain(s) for s in inferred], [plain(s) for s in gold]
    equal = [[a == b for b in theirs] for a in ours]
    return np.array(equal, np.float64).reshape(len(ours), len(theirs))


def repeated(sentences: Sequence[str]) -> int:
    """How many sentences say again what an earlier one said, plainly equal."""
    return len(sentences) - len({plain(sentence) for sentence in sentences})


def is_said(trait: str, heard: Sequence[str]) -> bool:
    """Whether the speaker has said a trait in its own words.

    At least half of the stems of its content words occur in what was heard (ANCHORS,
    1.4); of a trait of function words alone, of all its words.
    """
    stems = content_stems(trait)
    return 2 * len(stems & _stems(" ".join(heard))) >= len(stems) > 0


def content_stems(text: str) -> frozenset[str]:
    """Porter stems of the words that a sentence is about; of all, if there are none."""
    words = _WORDS.findall(text.lower())
    return frozenset(
        _stem(word) for word in words if word not in _FUNCTION_WORDS
    ) or frozenset(map(_stem, words))


@functools.lru_cache(maxsize=2**15)
def _stems(text: str) -> frozenset[str]:
    return frozenset(map(_stem, _WORDS.findall(text.lower())))


@functools.cache
def _stem(word: str) -> str:
    return _stemmer().stem(word)


@functools.cache
def _stemmer():
    # nltk takes a second to import.
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()
