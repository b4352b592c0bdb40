"""What the randomness of requests derives from: a seed, and a number for each."""

import itertools
from collections.abc import Sequence

from ppg_jax.errors import UserError


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
        if type(seed) is not int or not 0 <= seed < 2**31:
            told = "expected a whole number from 0 to below 2^31"
            raise UserError(f"seed={seed!r}: {told}.")
        if numbers is None:
            return list(itertools.islice(fresh, len(requests))), seed
        if len(numbers) != len(requests):
            raise UserError(
                f"'numbers' has {len(numbers)} for {len(requests)} requests; give one "
                "each."
            )
        return numbers, seed
