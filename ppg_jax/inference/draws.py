"""What the randomness of requests derives from: a seed, and a number for each."""

import itertools
from collections.abc import Sequence

from ppg_jax.errors import UserError

MOST = 2**30  # of a number: the device gets its double, in 32 bits


class Draws:
    """Numbers of requests; those that nobody chose are given once each."""

    def __init__(self):
        # Each `next` is one step: requests of several threads share no number.
        self._unused = itertools.count()

    def of(
        self,
        requests: Sequence,
        numbers: Sequence[int] | None,
        seed: int | None,
        usual: int,
    ) -> tuple[Sequence[int], int]:
        """(numbers, seed) of a call.

        Without numbers they are indices where a seed is given, else new ones; without a
        seed it is the usual one. Raises UserError for what is neither.
        """
        if seed is None:
            seed, fresh = usual, self._unused
        else:
            fresh = itertools.count()
        expected = "a whole number from 0 to below 2^31"
        _require(_is_count(seed, 2**31), "seed", seed, expected)
        if numbers is None:
            return list(itertools.islice(fresh, len(requests))), seed
        listed = isinstance(numbers, Sequence)
        sound = listed and all(_is_count(number, MOST) for number in numbers)
        _require(sound, "numbers", numbers, "a list of whole numbers below 2^30")
        if len(numbers) != len(requests):
            raise UserError(
                f"'numbers' has {len(numbers)} for {len(requests)} requests; give one "
                "each."
            )
        return numbers, seed


def _is_count(value, most: int) -> bool:
    return type(value) is int and 0 <= value < most


def _require(sound: bool, name: str, value, expected: str) -> None:
    if not sound:
        raise UserError(f"{name}={value!r:.60}: expected {expected}.")
