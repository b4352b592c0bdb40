"""The controls do what their names say and look at nothing that they should not."""

import itertools

import bm25s
import numpy as np
import pytest

from ppg_jax.data import personachat, retrieval
from ppg_jax.data.dialogue import Dialogue, Instance, instances
from ppg_jax.data.retrieval import top_k_sentences
from ppg_jax.metrics.bleu_rouge import parlai_bleu, rouge_l, token_f1
from ppg_jax.systems.controls import (
    PERSONA_CONTROLS,
    RESPONSE_CONTROLS,
    constant_for_bleu,
    constant_for_f1,
    constant_persona,
    infer_persona,
    respond,
)

TRAIN = (
    Dialogue(
        id="0",
        self_persona=("i sing.",),
        partner_persona=("i have two dogs.", "i live in maine", "i am tall."),
        utterances=(
            "hi , what do you do ?",
            "i sing . what do you do ?",
            "i walk my two dogs",
            "that is nice . i like dogs .",
        ),
    ),
    Dialogue(
        id="1",
        self_persona=("i cook.",),
        partner_persona=("i paint.", "i have two dogs.", "i drive a red car."),
        utterances=(
            "hello there !",
            "hello . what do you do for a living ?",
            "i paint houses red",
            "red is what i like to paint too .",
        ),
    ),
    Dialogue(
        id="2",
        self_persona=("i swim.",),
        partner_persona=("i paint.", "i have two dogs.", "i fish."),
        utterances=("do you swim ?", "i do . what do you do for a living ?"),
    ),
)
KNOWN = instances(TRAIN)


def asked(*context: str) -> Instance:
    return Instance("x:0", 0, ("secret self",), ("secret partner",), context, "secret")


@pytest.mark.parametrize("name", RESPONSE_CONTROLS)
def test_every_control_answers_every_instance_alike_under_one_seed(name):
    questions = (*KNOWN, asked(), asked("zzz"))
    found = respond(name, TRAIN, questions, seed=3)
    assert len(found) == len(questions)
    assert all(isinstance(text, str) for text in found)
    assert found == respond(name, TRAIN, questions, seed=3)
    assert "secret" not in " ".join(found)


COPYING = {
    "said",
    "said_or_usual",
}  # of the partner's words: tests/systems/test_said.py


@pytest.mark.parametrize("name", sorted(set(PERSONA_CONTROLS) - COPYING))
def test_every_control_infers_a_training_profile_or_sentence(name):
    questions = (*KNOWN, asked(), asked("zzz"))
    found = infer_persona(name, TRAIN, questions, seed=3)
    assert len(found) == len(questions)
    assert found == infer_persona(name, TRAIN, questions, seed=3)
    assert "secret" not in " ".join(found)
    assert all(text.endswith(".") for text in found)


def test_copy_last_repeats_the_last_utterance():
    found = respond("copy_last", TRAIN, [asked("a", "b"), asked()], seed=0)
    assert found == ["b", ""]


def test_random_draws_from_all_of_training_by_its_seed():
    questions = [asked("hi")] * 200
    first, second = (respond("random", TRAIN, questions, seed=s) for s in (0, 1))
    assert set(first) == {turn.response for turn in KNOWN}
    assert first != second
    profiles = infer_persona("random", TRAIN, questions, seed=0)
    assert len(set(profiles)) == 3


def test_retrieval_answers_with_what_followed_the_most_similar_utterance():
    questions = [asked("hello there !", "ok", "you paint houses ?"), asked()]
    found = respond("retrieval", TRAIN, questions, seed=0)
    assert found == ["red is what i like to paint too .", KNOWN[0].response]
    known_again = respond("retrieval", TRAIN, KNOWN, seed=0)
    assert known_again == [turn.response for turn in KNOWN]


def test_the_retrieved_profile_goes_by_what_the_partner_said_alone():
    said = ("tall people live in maine", "i paint and fish and drive a red car", "ok")
    [found] = infer_persona("retrieval", TRAIN, [asked(*said)], seed=0)
    assert found == "i have two dogs. i live in maine. i am tall."
    # Without the last "ok" the other line is the partner's, who always spoke last.
    [found] = infer_persona("retrieval", TRAIN, [asked(*said[:2])], seed=0)
    assert found == "i paint. i have two dogs. i drive a red car."


def test_the_constant_persona_is_of_the_most_frequent_sentences():
    assert constant_persona(TRAIN) == "i have two dogs. i paint. i live in maine."


def test_the_constant_replies_are_the_best_ones_by_brute_force():
    responses = [turn.response for turn in KNOWN]
    for metric, found in [
        (parlai_bleu, constant_for_bleu(TRAIN)),
        (token_f1, constant_for_f1(TRAIN)),
    ]:
        means = {r: metric([r] * len(responses), responses).mean() for r in responses}
        assert means[found] == max(means.values())


def test_the_constants_of_a_corpus_of_short_replies_are_frequent_ones():
    short = [
        Dialogue(str(i), ("a.",), ("b.",), ("hi", reply))
        for i, reply in enumerate(["yes", "no", "no", "maybe", ""])
    ]
    assert constant_for_bleu(short) == "no"
    assert constant_for_f1(short) == "no"


def test_an_unknown_control_is_refused_by_name():
    with pytest.raises(ValueError, match="'oracle'; there are constant_bleu, "):
        respond("oracle", TRAIN, KNOWN, seed=0)
    with pytest.raises(ValueError, match="'copy_last'; there are constant, "):
        infer_persona("copy_last", TRAIN, KNOWN, seed=0)


TRAITS = (
    "i have two dogs.",
    "i love my dogs and i have a cat.",
    "i work as a nurse.",
    "my favorite color is blue.",
    "i love the color red.",
)


@pytest.mark.parametrize("count", [1, 4, 5])
@pytest.mark.parametrize(
    "query", ["do your dogs love dogs ?", "i have a blue color", "a nurse , i see"]
)
def test_bm25_scores_are_the_packages_up_to_a_constant(count, query):
    """Lucene leaves the factor k1 + 1 out, and with it no order changes."""
    traits = TRAITS[:count]
    documents = [retrieval.Counter(retrieval._bm25_words(trait)) for trait in traits]
    words = retrieval._bm25_words(query)
    found = [retrieval._bm25(words, document, documents) for document in documents]
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index([retrieval._bm25_words(trait) for trait in traits], show_progress=False)
    known = [word for word in words if word in index.vocab_dict]
    expected = index.get_scores(known) if known else np.zeros(count)
    np.testing.assert_allclose(found, 2.5 * expected, rtol=1e-5)


def test_top_sentences_are_the_relevant_ones_in_their_order():
    assert top_k_sentences("are red dogs your favorite ?", TRAITS, 3) == (
        "i have two dogs.",
        "my favorite color is blue.",
        "i love the color red.",
    )
    assert top_k_sentences("a nurse", TRAITS[:4], 1) == ("i work as a nurse.",)


def test_a_word_of_most_sentences_never_counts_against_one():
    traits = ("i like tea.", "i like cats.", "i like fish.", "we run.")
    assert top_k_sentences("i", traits, 3) == traits[:3]
    # Classic Okapi's idf of "i" is negative here, and it would put "we run." first.
    assert traits[3] not in top_k_sentences("i like", tuple(reversed(traits)), 3)


def test_ties_go_to_the_earlier_sentence_in_any_order():
    for traits in itertools.permutations(TRAITS[:4]):
        assert top_k_sentences("zzz", traits, 3) == traits[:3]
        assert top_k_sentences("", traits, 3) == traits[:3]
        assert top_k_sentences("dogs", traits, 9) == traits
    assert top_k_sentences("dogs", (), 3) == ()


def test_one_real_reply_to_everything_has_the_papers_rouge(shared):
    """The paper's systems have ROUGE-L 16.4 to 18.1 and BLEU 0.55 to 1.09."""
    folder = shared / "data/personachat"
    train = personachat.read(folder / "train_both_original_no_cands.txt")
    turns = instances(personachat.read(folder / "valid_both_original_no_cands.txt"))
    references = [turn.response for turn in turns]
    by_bleu = respond("constant_bleu", train, turns, seed=0)
    assert by_bleu[0] == "what do you do for a living ?"
    assert parlai_bleu(by_bleu, references).mean() == pytest.approx(0.623, abs=1e-3)
    by_f1 = respond("constant_f1", train, turns, seed=0)
    assert by_f1[0] == "i am great , do you like to travel ?"
    assert rouge_l(by_f1, references).mean() == pytest.approx(17.92, abs=0.01)
    persona = constant_persona(train)
    gold = [" ".join(turn.partner_persona) for turn in turns]
    assert rouge_l([persona] * len(gold), gold).mean() == pytest.approx(22.18, abs=0.01)


def test_the_three_told_are_of_all_that_was_said():
    asked = Instance("x:0", 0, (), TRAITS, ("nurse", "blue", "two"), "")
    told = retrieval.told_sentences("top3", asked)
    assert told == (TRAITS[0], TRAITS[2], TRAITS[3])
