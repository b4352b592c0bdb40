"""What a critic must beat: judging profile and response by their words in common.

On PersonaChat one such feature already tells 71 % of a speaker's own responses from
a stranger's, where the paper's DistilBERT has about 75 % (footnote 3), so a
critic's accuracy means nothing without these beside it. Texts come in pairs
(profile, response). Axes: N pairs, C features.
"""

import dataclasses
import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

Pairs = Sequence[tuple[str, str]]

_WORDS = re.compile(r"\w+")


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())


def _vocabulary(text: str) -> frozenset[str]:
    return frozenset(_words(text))


def _stems(text: str) -> frozenset[str]:
    """First five letters of each word, so that gardens meet gardening."""
    return frozenset(word[:5] for word in _words(text))


def _bigrams(text: str) -> frozenset[tuple[str, str]]:
    return frozenset(itertools.pairwise(_words(text)))


@dataclasses.dataclass(frozen=True)
class Rarity:
    """How rare each term is in training responses: log((texts + 1) / (with it + 1))."""

    idf: dict
    unseen: float  # of a term that training never saw: as rare as its rarest

    @classmethod
    def fit(cls, pairs: Pairs, terms: Callable[[str], frozenset]) -> "Rarity":
        # Different texts: a response stands in two pairs or more.
        texts = {response for _, response in pairs}
        counts = Counter(term for text in texts for term in terms(text))
        idf = {term: math.log((len(texts) + 1) / (n + 1)) for term, n in counts.items()}
        return cls(idf, max(idf.values(), default=0.0))

    def __call__(self, terms) -> list[float]:
        """The terms' rarities, the rarest first."""
        return sorted((self.idf.get(t, self.unseen) for t in terms), reverse=True)


def accuracy(scores, labels) -> np.ndarray:
    """Whether each pair was judged rightly, P(related) > 0.5 being yes: float64 [N]."""
    return ((np.asarray(scores) > 0.5) == np.asarray(labels, bool)).astype(np.float64)


def random_scores(n: int, seed: int) -> np.ndarray:
    """The control that knows nothing: uniform P(related) [N]."""
    return np.random.default_rng(seed).random(n)


@dataclasses.dataclass(frozen=True)
class OverlapClassifier:
    """One feature, one threshold: how rare is the rarest word in common?"""

    rarity: Rarity
    threshold: float
    below: float  # P(related) of the training pairs under the threshold,
    above: float  # and of those over it

    @classmethod
    def fit(cls, pairs: Pairs, labels) -> "OverlapClassifier":
        """The threshold of the highest accuracy on the pairs; labels [N] are 0 or 1."""
        labels = np.asarray(labels, np.float64)
        rarity = Rarity.fit(pairs, _vocabulary)
        rarest = _rarest_shared(pairs, rarity)
        threshold = _best_threshold(rarest, labels)
        over = rarest > threshold
        return cls(rarity, threshold, _share(labels[~over]), _share(labels[over]))

    def score(self, pairs: Pairs) -> np.ndarray:
        """P(related) of each pair: float64 [N]."""
        over = _rarest_shared(pairs, self.rarity) > self.threshold
        return np.where(over, self.above, self.below)


def _rarest_shared(pairs: Pairs, rarity: Rarity) -> np.ndarray:
    """The rarity of the rarest word in common, 0 without any: float64 [N]."""
    words_of = functools.cache(_vocabulary)  # a text stands in several pairs
    common = (words_of(a) & words_of(b) for a, b in pairs)
    return np.array([max(rarity(words), default=0.0) for words in common], np.float64)


def _best_threshold(values: np.ndarray, labels: np.ndarray) -> float:
    """t for which `value > t` agrees most often with the label (the lowest such t)."""
    order = np.argsort(values, kind="stable")
    values, labels = values[order], labels[order]
    # Entry i: the first i are judged unrelated, the others related.
    right_below = np.concatenate([[0], np.cumsum(1 - labels)])
    right_above = labels.sum() - np.concatenate([[0], np.cumsum(labels)])
    right = right_below + right_above
    right[1:-1][values[1:] == values[:-1]] = -1  # a cut cannot part equal values
    middles = (values[1:] + values[:-1]) / 2
    edges = np.concatenate([values[:1] - 1, middles, values[-1:] + 1])
    return float(edges[np.argmax(right)])


def _share(labels: np.ndarray) -> float:
    """Share of related pairs, one of each kind added so that it is never 0 or 1."""
    return float((labels.sum() + 1) / (len(labels) + 2))


FEATURES = (
    "rarity of the rarest stem in common",
    "how far it is over the threshold",
    "rarity of the second rarest",
    "how far it is over the threshold",
    "how far the rarest word in common is over the threshold",
    "rarity of the rarest bigram in common",
    "stems in common",
    "log of the response's length",
)


@dataclasses.dataclass(frozen=True)
class LexicalClassifier:
    """Logistic regression on the eight plain FEATURES, fitted by Newton's method."""

    overlap: OverlapClassifier
    stems: Rarity
    bigrams: Rarity
    mean: np.ndarray  # [C]
    scale: np.ndarray  # [C]
    weights: np.ndarray  # [C + 1]; the last is the intercept

    @classmethod
    def fit(cls, pairs: Pairs, labels) -> "LexicalClassifier":
        """The most likely weights given the pairs; labels [N] are 0 or 1."""
        overlap = OverlapClassifier.fit(pairs, labels)
        stems, bigrams = Rarity.fit(pairs, _stems), Rarity.fit(pairs, _bigrams)
        features = _features(pairs, overlap, stems, bigrams)
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale < 1e-6] = 1.0  # a constant feature, rounding aside
        weights = _logistic_regression(_inputs(features, mean, scale), labels)
        return cls(overlap, stems, bigrams, mean, scale, weights)

    def score(self, pairs: Pairs) -> np.ndarray:
        """P(related) of each pair: float64 [N]."""
        features = _features(pairs, self.overlap, self.stems, self.bigrams)
        return _sigmoid(_inputs(features, self.mean, self.scale) @ self.weights)


def _features(
    pairs: Pairs, overlap: OverlapClassifier, stems: Rarity, bigrams: Rarity
) -> np.ndarray:
    """The FEATURES of each pair: float64 [N, C]."""
    stems_of, bigrams_of = functools.cache(_stems), functools.cache(_bigrams)
    rows = []
    for (profile, response), word in zip(
        pairs, _rarest_shared(pairs, overlap.rarity), strict=True
    ):
        common = stems(stems_of(profile) & stems_of(response))
        first, second = (common + [0.0, 0.0])[:2]
        row = [
            first,
            max(0.0, first - overlap.threshold),
            second,
            max(0.0, second - overlap.threshold),
            max(0.0, word - overlap.threshold),
            max(bigrams(bigrams_of(profile) & bigrams_of(response)), default=0.0),
            len(common),
            math.log1p(len(_words(response))),
        ]
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, len(FEATURES))


def _inputs(features, mean, scale) -> np.ndarray:
    """Standardised features and a one for the intercept: [N, C] -> [N, C + 1]."""
    ones = np.ones((len(features), 1))
    return np.concatenate([(features - mean) / scale, ones], axis=1)


def _logistic_regression(inputs, labels, ridge=1.0, steps=20) -> np.ndarray:
    """Weights of the ridge-penalised maximum likelihood, by Newton's method.

    inputs [N, C], labels [N] of 0 and 1 -> [C]. The penalty keeps the optimum finite
    where one feature tells all.
    """
    labels = np.asarray(labels, np.float64)
    penalty = ridge * np.eye(inputs.shape[1])
    weights = np.zeros(inputs.shape[1])
    for _ in range(steps):
        p = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (p - labels) + penalty @ weights
        hessian = (inputs.T * (p * (1 - p))) @ inputs + penalty
        change = np.linalg.solve(hessian, gradient)
        weights = weights - change
        if np.abs(change).max() < 1e-8:
            break
    return weights


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
