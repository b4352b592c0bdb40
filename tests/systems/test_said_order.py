"""What the partner said of themselves, and nothing that self or the gold one says."""

import pytest

from ppg_jax.data import personachat
from ppg_jax.data.dialogue import Instance, instances, profile_text
from ppg_jax.data.sentences import sentences
from ppg_jax.metrics.bleu_rouge import parlai_bleu, rouge_l
from ppg_jax.systems.controls import MOST, constant_persona, said, said_or_usual


def asked(*context: str) -> Instance:
    return Instance("x:0", 0, ("secret self",), ("secret partner",), context, "secret")


def test_the_partners_first_person_sentences_are_copied_in_their_order():
    instance = asked(
        "hi . well , i have 2 dogs ! you ?",
        "i sing .",  # self's, who answers
        "cool . My mom sings\nso does hers . is it hard ?",
    )
    assert said(instance) == "i have 2 dogs ! My mom sings."


def test_the_partner_is_whoever_spoke_last():
    assert said(asked("i cook .", "i swim .")) == "i swim ."
    assert said(asked("i cook .", "i swim .", "i run .")) == "i cook . i run ."


@pytest.mark.parametrize("word", ["in", "myth", "hi", "skiing"])
def test_first_person_words_are_whole_words(word):
    assert said(asked(f"{word} it is . i'm tall .")) == "i'm tall ."


def test_who_says_nothing_of_themselves_is_quoted_and_silence_is_empty():
    assert said(asked("hello there ! how are you ?")) == "hello there ! how are you ?"
    assert said(asked()) == said(asked("...")) == ""


def test_no_more_sentences_than_a_profile_has():
    many = " ".join(f"i have {n} dogs ." for n in range(9))
    first = " ".join(f"i have {n} dogs ." for n in range(MOST))
    assert said(asked(many)) == said_or_usual(asked(many), ["i sing."]) == first
    assert said(asked("hi . " * 9)) == " ".join(["hi ."] * MOST)


def test_usual_sentences_stand_for_what_was_not_said():
    usual = [f"i like {n}." for n in range(4)]
    found = said_or_usual(asked("hi . i run ."), usual)
    assert found == "i run . i like 0. i like 1. i like 2. i like 3."
    assert said_or_usual(asked("i run . i sing ."), usual).endswith("i like 2.")
    assert said_or_usual(asked("hi ."), usual) == " ".join(usual)


def test_scores_on_real_personachat(shared):
    """A trained persona generator of the paper has ROUGE-L 22.5 and BLEU 2.99."""
    train, turns = (
        personachat.read(shared / f"data/personachat/{name}_both_original_no_cands.txt")
        for name in ("train", "test")
    )
    turns = instances(turns)
    usual = sentences(constant_persona(train))
    gold = [profile_text(i.partner_persona) for i in turns]
    for found, rouge, bleu in (
        ([said(i) for i in turns], 22.94, 1.927),
        ([said_or_usual(i, usual) for i in turns], 26.31, 2.576),
    ):
        assert rouge_l(found, gold, "parlai-f").mean() == pytest.approx(rouge, abs=0.01)
        assert parlai_bleu(found, gold).mean() == pytest.approx(bleu, abs=1e-3)
