"""The three perplexities are the sums that their definitions say."""

import math

import numpy as np
import pytest

from ppg_jax.metrics import ppl, significance

NLL = [6.0, 1.0, 9.0]
TOKENS = [3, 2, 4]
WORDS = [2, 1, 3]


def perplexities(nll, tokens, words) -> dict[str, float]:
    """Of all instances, by each definition."""
    columns = ppl.columns(nll, tokens, words)
    return {k: float(ppl.perplexity(c.sum(axis=0))) for k, c in columns.items()}


def test_each_definition_by_hand():
    assert perplexities(NLL, TOKENS, WORDS) == pytest.approx(
        {
            "token": math.exp(16 / 9),
            "sequence": math.exp((6 / 3 + 1 / 2 + 9 / 4) / 3),
            "word": math.exp(16 / 6),
        }
    )


def test_a_uniform_model_has_the_size_of_its_vocabulary_as_perplexity():
    tokens = np.array([1, 5, 17])
    found = perplexities(tokens * math.log(50257), tokens, tokens)
    assert found == pytest.approx(dict.fromkeys(("token", "sequence", "word"), 50257))


def test_the_columns_carry_an_interval_around_the_perplexity():
    for definition, columns in ppl.columns(NLL, TOKENS, WORDS).items():
        interval = significance.bootstrap([columns], ppl.perplexity)
        assert interval.value == perplexities(NLL, TOKENS, WORDS)[definition]
        assert interval.low <= interval.value <= interval.high


def test_a_sequence_without_tokens_or_of_another_length_is_refused():
    with pytest.raises(ValueError, match="end token counts"):
        perplexities([1.0], [0], [1])
    with pytest.raises(ValueError, match="alike"):
        perplexities([1.0, 2.0], [1], [1])
