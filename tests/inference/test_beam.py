"""Beam search against all that could be said."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.data.vocabulary import END, PAD, START, UNKNOWN
from ppg_jax.inference.beam import Beam, search, without_repeats

WORDS = 6  # two besides the specials
ROWS = 3
# log p of a word after the two before it, for each row.
TABLE = np.random.default_rng(0).normal(0, 2, (ROWS, WORDS, WORDS, WORDS))
TABLE = np.asarray(jax.nn.log_softmax(TABLE), np.float64)


def log_probs(table):
    def after(words, place):
        last = jax.lax.dynamic_index_in_dim(words, place, 2, keepdims=False)
        before = jax.lax.dynamic_index_in_dim(
            words, jnp.maximum(place - 1, 0), 2, keepdims=False
        )
        rows = jnp.arange(len(table))[:, None]
        return jnp.asarray(table, jnp.float32)[rows, before, last]

    return after


def worth(table, said) -> float:
    """The log-probability of a sequence, one word after the other."""
    words = [START, START, *said]
    return sum(table[tuple(words[i : i + 3])] for i in range(len(said)))


def all_that_can_be_said(beam: Beam):
    for length in range(beam.shortest, beam.longest):
        for words in itertools.product((4, 5), repeat=length):
            yield [*words, END]
    yield from (list(w) for w in itertools.product((4, 5), repeat=beam.longest))


def found(beam: Beam, table=TABLE) -> list[list[int]]:
    run = jax.jit(lambda: search(log_probs(table), len(table), beam))
    return [[w for w in row if w != PAD] for row in np.asarray(run()).tolist()]


@pytest.mark.parametrize(("shortest", "longest"), [(1, 4), (3, 4), (1, 1)])
def test_a_beam_that_holds_all_finds_the_likeliest_of_all(shortest, longest):
    beam = Beam(32, shortest, longest)
    for row, said in zip(TABLE, found(beam), strict=True):
        best = max(all_that_can_be_said(beam), key=lambda s: worth(row, s))
        assert said == best


def by_hand(table, beam: Beam) -> list[int]:
    """A beam search with lists."""
    kept = [(0.0, [])]
    for place in range(beam.longest):
        made = []
        for total, said in kept:
            if END in said:
                made.append((total, said))
                continue
            allowed = (4, 5) if place < beam.shortest else (4, 5, END)
            made += [(worth(table, [*said, w]), [*said, w]) for w in allowed]
        kept = sorted(made, key=lambda m: -m[0])[: beam.size]
    return kept[0][1]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_narrow_beam_is_that_of_lists(size):
    beam = Beam(size, 2, 6)
    expected = [by_hand(table, beam) for table in TABLE]
    assert found(beam) == expected
    if size == 1:
        likeliest = [
            max(all_that_can_be_said(beam), key=lambda s: worth(table, s))
            for table in TABLE
        ]
        assert expected != likeliest  # or a wider beam would be for nothing


def test_rows_are_searched_alone_as_among_others():
    beam = Beam(3, 1, 6)
    together = found(beam)
    assert [found(beam, TABLE[i : i + 1])[0] for i in range(ROWS)] == together


def test_no_special_but_the_end_is_said():
    table = np.full((1, WORDS, WORDS, WORDS), -9.0)
    table[..., [PAD, UNKNOWN, START]] = -0.1
    table[..., END], table[..., 4] = -1.0, -2.0
    assert found(Beam(2, 2, 5), table) == [[4, 4, END]]


def test_words_said_twice_in_a_row_are_said_once():
    assert without_repeats([4, 4, 5, 5, 5, 4]) == [4, 5, 4]
    assert without_repeats([]) == []


def test_a_beam_of_nothing_is_refused():
    with pytest.raises(ValueError, match="size=0 must be a whole number"):
        Beam(0)
