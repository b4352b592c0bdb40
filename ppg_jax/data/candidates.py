"""What a response is told from: other responses, of the file or drawn."""

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from ppg_jax.data.dialogue import Dialogue, Instance
from ppg_jax.errors import UserError
from ppg_jax.metrics.clusters import normalized

TRIED = 64  # of many responses; then each of them once


def distractors(
    dialogues: Sequence[Dialogue], number: int, seed: int
) -> dict[str, tuple[str, ...]]:
    """Instance id -> so many other responses, none of them the instance's own.

    They are the last ones of the candidates that the file has, and where these are too
    few, responses of other conversations, drawn by the seed and the id. No two of an
    instance are the same.

    Raises:
      UserError: there are not so many different responses.
    """
    # The two sides of a conversation have the same utterances.
    pool = [(d.utterances, i.response) for d in dialogues for i in d.instances()]
    found = {}
    for dialogue in dialogues:
        of_turn = dialogue.candidates or [()] * len(dialogue.response_indices())
        for instance, known in zip(dialogue.instances(), of_turn, strict=True):
            rng = np.random.default_rng([seed, zlib.crc32(instance.id.encode())])
            drawn = (pool[i] for i in _order(rng, len(pool)))
            own = dialogue.utterances
            others = (said for utterances, said in drawn if utterances != own)
            found[instance.id] = _different(instance, known, others, number)
    return found


def _different(
    instance: Instance, known: Sequence[str], others: Iterator[str], number: int
) -> tuple[str, ...]:
    taken, gold = {}, normalized(instance.response)

    def take(texts) -> None:
        for text in texts:
            if len(taken) == number:
                return
            if normalized(text) != gold:
                taken.setdefault(normalized(text), text)

    take(reversed(known))
    take(others)
    if len(taken) < number:
        raise UserError(
            f"instance {instance.id} has {len(taken)} responses that it can be told "
            f"from, {number} are asked for; give more dialogues, or fewer candidates."
        )
    return tuple(taken.values())


def _order(rng: np.random.Generator, size: int) -> Iterator[int]:
    yield from rng.integers(size, size=TRIED)
    yield from rng.permutation(size)
