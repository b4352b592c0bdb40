"""Distinct-n counts n-grams as written down, and novelty whole sentences."""

import random

import numpy as np
import pytest
from nltk.tokenize import wordpunct_tokenize

from ppg_jax.data import personachat
from ppg_jax.data.dialogue import instances
from ppg_jax.metrics.distinct import (
    distinct,
    distinct_leave_one_out,
    intra_distinct,
    lengths,
    novelty_columns,
    word_punct,
)
from ppg_jax.metrics.significance import jackknife


def random_texts(count, rng, words=30):
    return [
        " ".join(f"w{int(words * rng.random() ** 2)}" for _ in range(rng.randrange(9)))
        for _ in range(count)
    ]


def brute_force(texts, n):
    """Every n-gram of every text in one list."""
    ngrams = []
    for text in texts:
        words = wordpunct_tokenize(text)
        for start in range(len(words) - n + 1):
            ngrams.append(tuple(words[start : start + n]))
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_distinct_equals_brute_force(n):
    rng = random.Random(n)
    for count in (0, 1, 5, 40):
        texts = random_texts(count, rng)
        assert distinct(texts, n) == brute_force(texts, n)
        assert intra_distinct(texts, n).tolist() == [
            brute_force([text], n) for text in texts
        ]


def test_by_hand_with_punctuation_kept_and_repeats_counted():
    texts = ["i sing . i dance .", "i sing ."]
    assert distinct(texts, 1) == 4 / 9
    assert distinct(texts, 2) == 5 / 7  # "i sing", "sing ." twice; none across texts
    assert lengths(texts).tolist() == [6, 3]


def test_words_are_nltks_wordpunct_tokens():
    text = "don't stop!! c++ is 3.14 _ok_  café"
    assert word_punct(text) == wordpunct_tokenize(text)


@pytest.mark.parametrize("n", [1, 2])
def test_leave_one_out_equals_leaving_one_out(n):
    rng = random.Random(7)
    texts = random_texts(40, rng)
    groups = [rng.choice("abcdef") for _ in texts]
    expected = [
        brute_force([t for t, g in zip(texts, groups, strict=True) if g != name], n)
        for name in sorted(set(groups))
    ]
    np.testing.assert_allclose(distinct_leave_one_out(texts, n, groups), expected)
    alone = [brute_force(texts[:i] + texts[i + 1 :], n) for i in range(len(texts))]
    np.testing.assert_allclose(distinct_leave_one_out(texts, n), alone)


def test_the_jackknife_interval_covers_what_such_a_set_has_on_average():
    rng = random.Random(3)
    sets = [random_texts(60, rng, words=30) for _ in range(200)]
    values = [distinct(texts, 2) for texts in sets]
    intervals = [
        jackknife(value, distinct_leave_one_out(texts, 2))
        for value, texts in zip(values, sets, strict=True)
    ]
    inside = [i.low <= np.mean(values) <= i.high for i in intervals]
    assert np.mean(inside) >= 0.93  # the jackknife errs on the wide side


def test_novelty_counts_sentences_that_training_never_said():
    training = ["I have two dogs.", "i like st. louis."]
    profiles = [
        "i have two dogs. i have two cats.",  # one known, one new
        "i like st. louis! i HAVE, two dogs",  # both known, in other letters
        "i have two dogs and cats.",  # more than what is known
        "",
    ]
    columns = novelty_columns(profiles, training)
    assert columns[:, 0].tolist() == [1, 0, 1, 0]
    assert columns[:, 1].tolist() == [2, 3, 1, 0]  # "st. louis" makes two


def test_gold_personas_have_the_papers_distinct(shared):
    """Table 4 of the paper: .003 and .008 for original ones, .004/.009 for revised."""
    found = {}
    for split in ("test_both_original", "valid_both_revised"):
        path = shared / f"data/personachat/{split}_no_cands.txt"
        turns = instances(personachat.read(path))
        profiles = [" ".join(turn.partner_persona) for turn in turns]
        found[split] = [round(distinct(profiles, n), 4) for n in (1, 2)]
    assert found["test_both_original"] == [0.0036, 0.0084]
    assert found["valid_both_revised"] == [0.0039, 0.0094]
