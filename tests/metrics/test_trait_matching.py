"""Traits are matched one to one, as many as there can be."""

import itertools

import numpy as np
import pytest

from ppg_jax.metrics import traits


def best_by_hand(similarity: np.ndarray, threshold: float) -> tuple[int, float]:
    """(pairs, similarity) of the best of all one-to-one matchings."""
    p, g = similarity.shape
    slots = [*range(g), *[None] * p]
    found = (0, 0.0)
    for chosen in set(itertools.permutations(slots, p)):
        alike = [similarity[i, j] for i, j in enumerate(chosen) if j is not None]
        alike = [s for s in alike if s >= threshold]
        found = max(found, (len(alike), sum(alike)))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_matching_is_the_largest_and_of_these_the_most_alike(seed):
    rng = np.random.default_rng(seed)
    similarity = rng.uniform(-1, 1, (rng.integers(1, 5), rng.integers(1, 4)))
    pairs = traits.matched(similarity, 0.1)
    for side in zip(*pairs, strict=True):
        assert len(set(side)) == len(pairs)
    assert all(similarity[pair] >= 0.1 for pair in pairs)
    count, alike = best_by_hand(similarity, 0.1)
    assert len(pairs) == count
    np.testing.assert_allclose(sum(similarity[pair] for pair in pairs), alike)


def test_two_close_pairs_are_worth_more_than_one_perfect_pair():
    similarity = np.array([[1.0, 0.6], [0.6, -1.0]])
    assert traits.matched(similarity, 0.6) == [(0, 1), (1, 0)]


def test_a_pair_at_the_threshold_counts_and_one_below_does_not():
    assert traits.matched(np.array([[0.5]]), 0.5) == [(0, 0)]
    assert traits.matched(np.array([[0.49]]), 0.5) == []


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_an_empty_side_matches_nothing(shape):
    assert traits.matched(np.zeros(shape), 0.0) == []


def test_equal_words_match_whatever_their_case_spaces_and_punctuation():
    ours, theirs = ["I Like  tea !", "i like coffee."], ["i like tea.", "i like cats."]
    assert traits.exact(ours, theirs).tolist() == [[1, 0], [0, 0]]
    assert traits.exact([], theirs).shape == (0, 2)


def test_a_sentence_said_three_times_is_repeated_twice():
    assert traits.repeated(["i sing.", "I sing !", "i run.", "i sing"]) == 2
    assert traits.repeated(["i sing.", "i run."]) == traits.repeated([]) == 0
