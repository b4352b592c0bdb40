"""Beam search: of all that could be said, the likeliest that few hypotheses find.

A hypothesis is worth the sum of its words' log-probabilities, its end token's included.
One that has ended stays in the beam as it is. So once the best one has ended, no other
can overtake it, and the search is over.

Axes: B rows, K hypotheses of a row (the beam), T words, V vocabulary.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ppg_jax.data.vocabulary import END, PAD, START, UNKNOWN
from ppg_jax.models.dense import require_sizes

NEVER = -1e30  # a log-probability that no sum of others comes near


@dataclasses.dataclass(frozen=True)
class Beam:
    """What is searched for.  shortest, longest: words; the end token is one of the
    latter, and what has none by then is cut."""

    size: int = 5
    shortest: int = 5
    longest: int = 20

    def __post_init__(self):
        require_sizes(self, "size", "shortest", "longest")


def search(
    log_probs: Callable[[jax.Array, jax.Array], jax.Array], rows: int, beam: Beam
) -> jax.Array:
    """The best hypothesis of each row: int32 [B, T], `PAD` behind its end token.

    log_probs: (words [B, K, T+1], place) -> float32 [B, K, V], of the word that follows
    the one at `place`; the first one is the start token. Nothing of a row depends on
    the others. No hypothesis has a special but the end token.
    """
    first = jnp.full((rows, beam.size, beam.longest + 1), PAD, jnp.int32)
    first = first.at[:, :, 0].set(START)
    # All hypotheses are alike at first, so only one of them is extended.
    worth = jnp.full((rows, beam.size), NEVER).at[:, 0].set(0)

    def goes_on(state):
        place, words, _ = state
        return (place < beam.longest) & ~jnp.all(_ended(words)[:, 0])

    def extend(state):
        place, words, worth = state
        allowed = log_probs(words, place)
        allowed = allowed.at[:, :, jnp.array([PAD, UNKNOWN, START])].set(NEVER)
        allowed = allowed.at[:, :, END].add(
            jnp.where(place < beam.shortest, NEVER, 0.0)
        )
        # One that has ended goes on with padding, for nothing.
        only = jnp.full(allowed.shape[2:], NEVER).at[PAD].set(0)
        allowed = jnp.where(_ended(words)[:, :, None], only[None, None], allowed)
        total = (worth[:, :, None] + allowed).reshape(rows, -1)
        worth, taken = jax.lax.top_k(total, beam.size)
        origin, word = jnp.divmod(taken, allowed.shape[2])
        words = jnp.take_along_axis(words, origin[:, :, None], axis=1)
        return place + 1, words.at[:, :, place + 1].set(word), worth

    start = jnp.zeros((), jnp.int32), first, worth
    _, words, _ = jax.lax.while_loop(goes_on, extend, start)
    return words[:, 0, 1:]


def _ended(words):
    """int [B, K, T+1] -> bool [B, K]."""
    return jnp.any(words == END, axis=2)


def without_repeats(words: list) -> list:
    """The same without those that are as the one before."""
    return [w for i, w in enumerate(words) if not i or w != words[i - 1]]
