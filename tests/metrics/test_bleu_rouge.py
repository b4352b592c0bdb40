"""BLEU, ROUGE-L and F1 are those of the packages that published numbers come from."""

import importlib
import random
import sys
import types

import nltk
import numpy as np
import pytest
import sacrebleu
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score.rouge_scorer import RougeScorer

from ppg_jax.data import personachat
from ppg_jax.data.dialogue import instances
from ppg_jax.metrics import bleu_rouge
from ppg_jax.metrics.bleu_rouge import (
    normalize_answer,
    parlai_bleu,
    rouge_l,
    sacre_bleu,
    sacre_bleu_columns,
    sacre_bleu_of,
    token_f1,
)

WORDS = """
i am an engineer the a . , ! don't gonna wanna gimme gotta lemme cannot cannots running
runs married children happily happiness caresses agreement ponies skies dog dogs 42 c++
rock'n'roll café x_y I'M The THE hi-fi
"""


def random_pairs(count=300, seed=0):
    """Texts that share words, some empty, some of one word, some over 665 bytes."""
    rng = random.Random(seed)

    def text():
        length = rng.choice([0, 1, 2, 3, 5, 8, 13, 200])
        return " ".join(rng.choices(WORDS.split(), k=length))

    pairs = [(text(), text()) for _ in range(count)]
    same = [(hypothesis, hypothesis) for hypothesis, _ in pairs[:20]]
    return tuple(zip(*pairs + same, strict=True))


HYPOTHESES, REFERENCES = random_pairs()


def test_normalize_answer_is_parlais():
    assert normalize_answer(" The man's  A-team, an_other! (theme)") == (
        "man s team other theme"
    )
    assert normalize_answer("the . a !") == ""


def test_parlai_bleu_is_nltks_sentence_bleu_times_100():
    smoothing = SmoothingFunction(epsilon=1e-12).method1
    expected = [
        100
        * sentence_bleu(
            [normalize_answer(reference).split(" ")],
            normalize_answer(hypothesis).split(" "),
            weights=[1 / 4] * 4,
            smoothing_function=smoothing,
        )
        for hypothesis, reference in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    found = parlai_bleu(HYPOTHESES, REFERENCES)
    assert found.shape == (len(HYPOTHESES),)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_an_exact_match_of_fewer_than_four_words_scores_next_to_nothing():
    texts = ["yes", "yes i", "yes i do", "yes i do too"]
    found = parlai_bleu(texts, texts)
    np.testing.assert_allclose(found, [1e-7, 1e-4, 1e-1, 100], rtol=1e-6)


def test_googles_preset_is_the_rouge_score_package():
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    expected = [
        100
        * scorer.score(normalize_answer(reference), normalize_answer(hypothesis))[
            "rougeL"
        ].fmeasure
        for hypothesis, reference in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    np.testing.assert_allclose(rouge_l(HYPOTHESES, REFERENCES, "google"), expected)


@pytest.fixture
def py_rouge(monkeypatch):
    """The package's class, with what it misses here: pkg_resources and punkt."""
    if importlib.util.find_spec("rouge") is None:
        pytest.skip("needs py-rouge: pip install py-rouge==1.1")
    folder = importlib.util.find_spec("rouge").submodule_search_locations[0]
    pkg_resources = types.ModuleType("pkg_resources")
    pkg_resources.resource_filename = lambda package, name: f"{folder}/{name}"
    monkeypatch.setitem(sys.modules, "pkg_resources", pkg_resources)
    rouge = importlib.import_module("rouge").Rouge
    one_sentence = staticmethod(
        lambda text, language="english": nltk.word_tokenize(text, preserve_line=True)
    )
    monkeypatch.setattr(rouge, "tokenize_text", one_sentence)
    return rouge


def scores_of(py_rouge, hypotheses, references):
    scorer = py_rouge(metrics=["rouge-l"])
    return [
        100
        * scorer.get_scores(normalize_answer(hypothesis), normalize_answer(reference))[
            "rouge-l"
        ]["f"]
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]


def test_parlai_f_is_py_rouge_without_its_irregular_forms(py_rouge, monkeypatch):
    monkeypatch.setattr(py_rouge, "WORDNET_KEY_VALUE", {"never a word": "-"})
    expected = scores_of(py_rouge, HYPOTHESES, REFERENCES)
    found = rouge_l(HYPOTHESES, REFERENCES, "parlai-f")
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_irregular_forms_move_the_mean_by_less_than_a_tenth(py_rouge, shared):
    hypotheses, references = copies_of_the_last_utterance(shared)
    hypotheses, references = hypotheses[:2000], references[:2000]
    expected = np.mean(scores_of(py_rouge, hypotheses, references))
    found = rouge_l(hypotheses, references, "parlai-f").mean()
    assert found == pytest.approx(expected, abs=0.1)


def test_parlai_f_by_hand():
    # "marri man cannot" against "man marri", 2 of 3 and 2 in order: 1; 2*1/(3+2).
    assert rouge_l(["a married man cannot"], ["man marrying"], "parlai-f") == (
        pytest.approx([40.0])
    )
    # Past 665 bytes nothing counts: 111 words of 6 bytes, the last one cut.
    long = " ".join(f"{i:05}" for i in range(150))
    assert rouge_l([long], ["00149"], "parlai-f") == [0.0]
    assert rouge_l([long], ["00109"], "parlai-f") > 0


def test_an_unknown_rouge_preset_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'perl'.*parlai-f"):
        rouge_l(["a"], ["b"], "perl")


def test_f1_is_the_overlap_of_the_two_bags_of_words():
    found = token_f1(
        ["a dog a dog", "the", "", "hi", "I love it!"],
        ["dog cat", "the", "", "", "i love love cats"],
    )
    # dog dog / dog cat: precision 1/2, recall 1/2. i love it / i love love cats: 2 of
    # 3 and of 4. Articles vanish, and two empty sides have nothing in common.
    np.testing.assert_allclose(found, [50, 0, 0, 0, 400 / 7])


def test_sacre_bleu_is_the_package_and_says_which():
    found = sacre_bleu(HYPOTHESES, REFERENCES)
    expected = sacrebleu.corpus_bleu(list(HYPOTHESES), [list(REFERENCES)], force=True)
    assert found.score == expected.score
    assert found.signature.startswith(
        "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"
    )


def test_summed_columns_give_sacre_bleu_of_any_part():
    columns = sacre_bleu_columns(HYPOTHESES, REFERENCES)
    parts = [slice(0, 320), slice(50, 90), slice(5, 6)]
    sums = np.stack([columns[part].sum(axis=0) for part in parts])
    expected = [sacre_bleu(HYPOTHESES[p], REFERENCES[p]).score for p in parts]
    np.testing.assert_allclose(sacre_bleu_of(sums), expected)


@pytest.mark.parametrize(
    "metric", [parlai_bleu, rouge_l, token_f1, sacre_bleu, sacre_bleu_columns]
)
def test_a_missing_hypothesis_is_an_error(metric):
    with pytest.raises(ValueError, match="1 hypotheses for 2 references"):
        metric(["a"], ["a", "b"])


def test_longest_common_subsequence_equals_the_table():
    def table(a, b):
        row = [0] * (len(b) + 1)
        for x in a:
            above = row
            row = [0]
            for j, y in enumerate(b):
                row.append(above[j] + 1 if x == y else max(above[j + 1], row[j]))
        return row[-1]

    rng = random.Random(1)
    for _ in range(200):
        a, b = (rng.choices("abcd", k=rng.randrange(90)) for _ in range(2))
        assert bleu_rouge._longest_common_subsequence(a, b) == table(a, b)


def copies_of_the_last_utterance(shared):
    path = shared / "data/personachat/valid_both_original_no_cands.txt"
    turns = instances(personachat.read(path))
    return [turn.context[-1] for turn in turns], [turn.response for turn in turns]


def test_scale_on_real_responses(shared):
    """What trivial replies score on PersonaChat's validation split.

    Contractions ("that's" for "that is"), which ConvAI2's text has and this one has
    not, would lower BLEU of the second and ROUGE-L of all three.
    """
    copies, references = copies_of_the_last_utterance(shared)
    first = ["i like to play music . what do you do ?"] * len(references)
    second = ["that is great . what do you do for a living ?"] * len(references)
    found = [
        (parlai_bleu(texts, references).mean(), rouge_l(texts, references).mean())
        for texts in (first, second, copies)
    ]
    expected = [(0.409, 15.84), (0.563, 11.40), (0.169, 12.74)]
    np.testing.assert_allclose(found, expected, atol=0.006)


@pytest.mark.parametrize("version, rouge", [("original", 23.47), ("revised", 20.86)])
def test_scale_on_real_personas(shared, version, rouge):
    """A constant persona has the ROUGE-L of the paper's generator (22.5 and 20.8)."""
    path = shared / f"data/personachat/valid_both_{version}_no_cands.txt"
    references = [
        " ".join(turn.partner_persona) for turn in instances(personachat.read(path))
    ]
    constant = (
        "i like to cook. i have two dogs. my favorite color is blue. i love to read."
    )
    found = rouge_l([constant] * len(references), references).mean()
    assert found == pytest.approx(rouge, abs=0.006)
