"""A proper distribution, equal to sums by hand, and the numbers of real text."""

import math
from collections import Counter

import numpy as np
import pytest

from ppg_jax.data import corpus
from ppg_jax.data.corpus import DataConfig
from ppg_jax.data.dialogue import instances
from ppg_jax.data.prompts import PromptConfig, Prompts
from ppg_jax.metrics.ppl import perplexity
from ppg_jax.models import starts
from ppg_jax.models.ngram import SMALL_CORPUS_DISCOUNTS, KneserNey
from ppg_jax.stages import evaluate, supervised

A, B, END = 1, 2, 0


VOCAB = 402  # two of which never occur


def zipfian(texts=2000, vocab=400, seed=0):
    """Texts with enough counts of one to four for the discounts to be estimated."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocab + 1)
    lengths = rng.integers(1, 12, size=texts)
    return [rng.choice(vocab, n, p=weights / weights.sum()).tolist() for n in lengths]


def by_definition(sequences, order, vocab, text):
    """P of each token of `text`, from dictionaries of tuples ("^" starts a text)."""
    grams = [Counter() for _ in range(order + 1)]
    for sequence in sequences:
        padded = ["^"] * (order - 1) + list(sequence)
        for end in range(order - 1, len(padded)):
            grams[order][tuple(padded[end - order + 1 : end + 1])] += 1
    for k in range(order, 1, -1):
        grams[k - 1] = Counter(gram[1:] for gram in grams[k])

    def discounts(k):
        n = Counter(grams[k].values())
        share = n[1] / (n[1] + 2 * n[2])
        return [0] + [i - (i + 1) * share * n[i + 1] / n[i] for i in (1, 2, 3)]

    taken = [None] + [discounts(k) for k in range(1, order + 1)]

    def p(history, token):
        k = len(history) + 1
        lower = p(history[1:], token) if history else 1 / vocab
        counts = {g[-1]: n for g, n in grams[k].items() if g[:-1] == history}
        if not counts:
            return lower
        freed = sum(taken[k][min(n, 3)] for n in counts.values())
        count = counts.get(token, 0)
        known = count - taken[k][min(count, 3)]
        return (known + freed * lower) / sum(counts.values())

    padded = ["^"] * (order - 1) + list(text)
    return [
        p(tuple(padded[end - order + 1 : end]), padded[end])
        for end in range(order - 1, len(padded))
    ]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_distribution_sums_to_one_after_any_history(order):
    model = KneserNey.fit(zipfian(), order, VOCAB)
    for history in ([], [0], [401], [401, 0], [0, 401], [5, 0, 1], [401] * 5, [0] * 9):
        found = model.distribution(history)
        assert found.shape == (VOCAB,) and (found > 0).all()
        assert found.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_are_those_of_the_definition(order):
    sequences = zipfian()
    model = KneserNey.fit(sequences, order, VOCAB)
    for text in [*sequences[:3], [401, 0, 1], [0, 401, 401, 5], [399]]:
        expected = by_definition(sequences, order, VOCAB, text)
        nll, tokens = model.nll(text)
        assert tokens == len(text)
        assert nll == pytest.approx(-sum(map(math.log, expected)))
        step_by_step = [model.distribution(text[:t])[text[t]] for t in range(len(text))]
        assert step_by_step == pytest.approx(expected)


def test_a_bigram_by_hand():
    """Texts "A B", "A", "A B": pairs ^A 3, AB 2, B. 2, A. 1; left sides A 1, B 1, . 2.

    No four counts of counts: 0.5 off a one, 1 off a two, 1.5 off a three.
    """
    assert SMALL_CORPUS_DISCOUNTS == (0.5, 1.0, 1.5)
    model = KneserNey.fit([[A, B, END], [A, END], [A, B, END]], 2, 4)
    # Of four left sides, 0.5 + 0.5 + 1 are free for the uniform 1 / 4.
    alone = {A: (0.5 + 2 / 4) / 4, B: (0.5 + 2 / 4) / 4, END: (1 + 2 / 4) / 4}
    assert model.distribution([3])[[A, B, END, 3]] == pytest.approx(
        [alone[A], alone[B], alone[END], 1 / 8]
    )
    first = (1.5 + 1.5 * alone[A]) / 3
    then = (2 - 1 + 1.5 * alone[B]) / 3
    last = (2 - 1 + 1 * alone[END]) / 2
    nll, tokens = model.nll([A, B, END])
    assert (nll, tokens) == (pytest.approx(-math.log(first * then * last)), 3)


def test_many_texts_score_as_each_by_itself():
    model, texts = KneserNey.fit(zipfian(), 3, VOCAB), zipfian(20, seed=1)
    expected = [model.nll(text)[0] for text in texts]
    np.testing.assert_allclose(model.nlls(texts), expected)
    assert model.nlls([[], texts[0], []]) == pytest.approx([0, expected[0], 0])


def test_a_completion_takes_the_likeliest_token_until_the_end_or_the_limit():
    model = KneserNey.fit([[A, B, END]] * 3 + [[A, END]], 2, 4)
    assert model.complete(9, END) == [A, B]
    assert model.complete(1, END) == [A]
    assert KneserNey.fit([[A, A, A, A, A, END]], 2, 4).complete(7, END) == [A] * 7


def test_what_cannot_be_fitted_or_scored_is_refused():
    for sequences, order in ([[]], 2), ([], 2), ([[A]], 0):
        with pytest.raises(ValueError, match="nothing to fit"):
            KneserNey.fit(sequences, order, 4)
    for token in (-1, 4):
        with pytest.raises(ValueError, match=r"not in \[0, 4\)"):
            KneserNey.fit([[A, token]], 2, 4)
        with pytest.raises(ValueError, match=r"not in \[0, 4\)"):
            KneserNey.fit([[A]], 2, 4).nll([token])


def test_token_perplexities_of_real_personachat(shared, tmp_path):
    """By bpe:8192, of 320 test dialogues (those of docs/results/personachat_scratch),
    of all 968, and of the 64 that training validates on."""
    data = DataConfig(source=str(shared / "data/personachat"))
    splits = corpus.load_splits(data)
    stage = supervised.Config(name="response", task="response", data=data)
    tokenizer = starts.run_tokenizer(stage, tmp_path, splits["train"])
    prompts = Prompts(tokenizer, PromptConfig())
    prompts.prime(splits["train"])
    asked = (
        evaluate.chosen(evaluate.Config(max_dialogues=320), splits["test"]),
        instances(splits["test"]),
        instances(splits["valid"][:64]),
    )
    gold = [[prompts.response_target(i.response) for i in some] for some in asked]
    profiles = [
        [prompts.persona_target(i.partner_persona) for i in some] for some in asked
    ]

    def measured(sequences, order, targets):
        model = KneserNey.fit(sequences, order, len(tokenizer))
        sums = [[model.nlls(some).sum(), sum(map(len, some))] for some in targets]
        return pytest.approx(perplexity(sums), abs=0.005)

    train = splits["train"]
    responses = [prompts.response_target(i.response) for i in instances(train)]
    said = [prompts.response_target(u) for d in train for u in d.utterances]
    told = [prompts.persona_target(d.partner_persona) for d in train]
    assert measured(responses, 2, gold) == [60.97, 63.82, 71.67]
    assert measured(responses, 3, gold) == [46.29, 49.11, 56.27]
    assert measured(responses, 4, gold) == [44.95, 47.74, 54.82]
    assert measured(said, 4, gold) == [39.97, 42.28, 48.77]
    assert measured(told, 3, profiles) == [64.77, 64.86, 77.86]
    reply = KneserNey.fit(responses, 4, len(tokenizer)).complete(32, prompts.end_id)
    assert prompts.text(reply) == "i am a teacher ."
