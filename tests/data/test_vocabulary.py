"""A vocabulary of whole words."""

import json
import math

import pytest

from ppg_jax.data.vocabulary import (
    END,
    FILE,
    PAD,
    SPECIALS,
    START,
    UNKNOWN,
    Vocabulary,
    split_words,
)
from ppg_jax.errors import UserError

TEXTS = ("I like tea , tea !", "i don't like <pad>")


def test_words_are_lower_case_runs_of_letters_or_of_signs():
    assert split_words("Don't you?!\n A_1 été") == [
        *("don", "'", "t", "you", "?!", "a_1", "été"),
    ]


def test_the_most_frequent_words_come_first_and_ties_by_their_letters():
    known = Vocabulary.of(TEXTS)
    assert known.words[:4] == SPECIALS and known.words[4:7] == ("i", "like", "tea")
    assert list(known.words[7:]) == sorted(known.words[7:])
    assert known.left_out == 0 and len(known) == 4 + 11


def test_what_is_left_out_is_counted():
    assert Vocabulary.of(TEXTS, most=2).words[4:] == ("i", "like")
    assert Vocabulary.of(TEXTS, most=2).left_out == 9
    twice = Vocabulary.of(TEXTS, least=2)
    assert twice.words[4:] == ("i", "like", "tea") and twice.left_out == 8


def test_a_text_comes_back_and_no_text_spells_a_special():
    known = Vocabulary.of(TEXTS)
    assert known.text(known.encode("I  like TEA!")) == "i like tea !"
    assert not {PAD, START, END} & set(known.encode("<pad> <start> <end>"))
    assert known.encode("coffee") == [UNKNOWN]
    assert known.text([START, *known.encode("i coffee tea"), END, PAD]) == "i tea"


def test_an_unknown_word_has_one_share_of_those_left_out():
    known = Vocabulary.of(TEXTS, most=2)
    ids = known.encode("i like tea and coffee")
    assert known.unknown_nll(ids) == pytest.approx(3 * math.log(10))
    assert Vocabulary.of(TEXTS).unknown_nll([UNKNOWN]) == 0


def test_a_smaller_vocabulary_never_scores_the_same_counts_better():
    """By the frequencies of the very texts, which no model of single words beats."""
    text = " ".join("a" * 9 + "b" * 7 + "c" * 4 + "d" * 2 + "ef")

    def nll(most):
        known = Vocabulary.of([text], most=most)
        ids = known.encode(text)
        shares = {i: ids.count(i) / len(ids) for i in ids}
        return known.unknown_nll(ids) - sum(math.log(shares[i]) for i in ids)

    assert nll(6) < nll(3) < nll(1)


def test_it_comes_back_from_its_folder(tmp_path):
    known = Vocabulary.of(TEXTS, most=5)
    known.save(tmp_path / "new")
    again = Vocabulary.load(tmp_path / "new")
    assert again == known and again.sha256 == known.sha256
    assert Vocabulary(known.words, 9).sha256 != known.sha256
    assert Vocabulary.of(TEXTS, most=4).sha256 != known.sha256


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        "{}",
        '{"words": ["a"], "left_out": 0}',
        '{"words": [%s, "a", "a"], "left_out": 0}',
        '{"words": [%s, 3], "left_out": 0}',
        '{"words": [%s], "left_out": -1}',
        '{"words": [%s], "left_out": true}',
        None,
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, damaged):
    if damaged is not None:
        specials = json.dumps(SPECIALS)[1:-1]
        (tmp_path / FILE).write_text(damaged.replace("%s", specials))
    with pytest.raises(UserError, match=FILE) as error:
        Vocabulary.load(tmp_path)
    assert "train" in str(error.value) and "\n" not in str(error.value)
