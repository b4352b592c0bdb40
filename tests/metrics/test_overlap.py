"""The lexical controls learn what there is to learn from words in common, no more."""

import functools

import numpy as np
import pytest

from ppg_jax.data import personachat
from ppg_jax.data.dialogue import instances
from ppg_jax.metrics import overlap
from ppg_jax.metrics.overlap import (
    LexicalClassifier,
    OverlapClassifier,
    accuracy,
    random_scores,
)

CLASSIFIERS = [OverlapClassifier, LexicalClassifier]
COMMON = ["i", "am", "the", "what", "you", "do", "like"]


def toy_pairs(rng, count=300, betrayed=1.0):
    """Responses of common words; the related ones name a word of their profile."""
    pairs, labels = [], []
    for i in range(count):
        rare = f"{rng.integers(10, 50)}hobby"
        label = i % 2
        named = rare if label and rng.random() < betrayed else "what"
        profile = " ".join([*rng.choice(COMMON, 6), rare])
        pairs.append((profile, " ".join([*rng.choice(COMMON, 5), named])))
        labels.append(label)
    return pairs, np.array(labels)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_rare_word_in_common_is_found_on_new_pairs(classifier):
    rng = np.random.default_rng(0)
    model = classifier.fit(*toy_pairs(rng))
    pairs, labels = toy_pairs(rng)
    scores = model.score(pairs)
    assert scores.shape == (300,)
    assert ((scores > 0) & (scores < 1)).all()
    assert accuracy(scores, labels).mean() == 1.0


def test_scores_are_the_training_share_on_either_side_of_the_threshold():
    pairs, labels = toy_pairs(np.random.default_rng(1), betrayed=0.5)
    model = OverlapClassifier.fit(pairs, labels)
    scores = model.score(pairs)
    named = np.array([response.split()[-1] in profile for profile, response in pairs])
    rare = np.array([response.split()[-1] != "what" for _, response in pairs])
    over = named & rare
    assert over.sum() < labels.sum()
    assert np.unique(scores[over]) == (over.sum() + 1) / (over.sum() + 2)
    unrelated, under = (labels == 0).sum(), (~over).sum()
    assert np.unique(scores[~over]) == pytest.approx(
        (under - unrelated + 1) / (under + 2)
    )


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_empty_texts_and_unseen_words_have_a_score(classifier):
    model = classifier.fit(*toy_pairs(np.random.default_rng(2)))
    nothing, unseen = model.score([("", ""), ("zebras .", "my zebras")])
    assert nothing < 0.5 < unseen  # a shared word that training never saw is rare
    assert model.score([]).shape == (0,)


def test_the_best_threshold_equals_trying_them_all():
    rng = np.random.default_rng(3)
    for _ in range(50):
        values = rng.integers(6, size=20).astype(float)
        labels = rng.integers(2, size=20).astype(float)
        cuts = np.arange(-1, 7) + 0.5
        right = [((values > cut) == labels).sum() for cut in cuts]
        found = overlap._best_threshold(values, labels)
        assert ((values > found) == labels).sum() == max(right)


def test_newtons_method_ends_where_the_gradient_is_zero():
    rng = np.random.default_rng(4)
    inputs = np.concatenate([rng.normal(size=(500, 3)), np.ones((500, 1))], axis=1)
    truth = np.array([1.0, -2.0, 0.0, 0.5])
    labels = (rng.random(500) < 1 / (1 + np.exp(-inputs @ truth))).astype(float)
    weights = overlap._logistic_regression(inputs, labels)
    p = 1 / (1 + np.exp(-inputs @ weights))
    np.testing.assert_allclose(inputs.T @ (p - labels) + weights, 0, atol=1e-6)
    np.testing.assert_allclose(weights, truth, atol=0.5)


def test_the_random_control_is_right_half_of_the_time():
    labels = np.arange(10_000) % 2
    scores = random_scores(len(labels), seed=0)
    assert accuracy(scores, labels).mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(scores, random_scores(len(labels), seed=0))


read = functools.cache(personachat.read)


def real_pairs(path, side, every=1):
    """Each response with its speaker's profile, and with one of half a file away."""
    turns = instances(read(path))[::every]
    profiles = [" ".join(getattr(turn, side)) for turn in turns]
    others = profiles[len(turns) // 2 :] + profiles[: len(turns) // 2]
    pairs, labels = [], []
    for turn, profile, other in zip(turns, profiles, others, strict=True):
        if profile != other:
            pairs += [(profile, turn.response), (other, turn.response)]
            labels += [1, 0]
    return pairs, labels


@pytest.mark.parametrize(
    "side, one_feature, eight_features",
    # On original and revised personas.
    [
        ("self_persona", (0.709, 0.537), (0.720, 0.543)),
        ("partner_persona", (0.551, 0.510), (0.558, 0.514)),
    ],
)
def test_accuracy_on_real_pairs(shared, side, one_feature, eight_features):
    folder = shared / "data/personachat"
    train = real_pairs(folder / "train_both_original_no_cands.txt", side, every=8)
    for classifier, expected in zip(
        CLASSIFIERS, [one_feature, eight_features], strict=True
    ):
        model = classifier.fit(*train)
        found = []
        for version in ("original", "revised"):
            path = folder / f"valid_both_{version}_no_cands.txt"
            pairs, labels = real_pairs(path, side)
            found.append(accuracy(model.score(pairs), labels).mean())
        # Which profiles are paired moves an accuracy by half a point.
        np.testing.assert_allclose(found, expected, atol=0.012)


def test_a_word_is_as_rare_as_the_responses_that_have_it_are_different():
    pairs = [("i sing.", "a b"), ("i run.", "a b"), ("i fly.", "c")]
    rarity = overlap.Rarity.fit(pairs, overlap._vocabulary)
    assert rarity.idf["a"] == rarity.idf["c"] == pytest.approx(np.log(3 / 2))


def test_a_score_of_one_half_says_unrelated():
    assert accuracy([0.5, 0.5], [0, 1]).tolist() == [1, 0]
