"""Which sentences of an inferred persona are right: traits against traits, one to one.

A trait is a sentence of a persona. Whether two sentences are the same trait is told by
a matrix of similarities and a threshold; each sentence of either side is used once, so
a sentence that is said three times is right once.

Axes: P inferred sentences, G gold sentences.
"""

import re
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

_WORDS = re.compile(r"\w+")


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
