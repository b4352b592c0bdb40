"""Responses by one generator, which is told who the partner is; none that only repeats.

Greedy replies of a small model come back to the speaker's own persona, in the same
words, whatever was said, or take the partner's for it. Such a one is asked for anew,
without the persona that it comes from.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.prompts import Prompts
from ppg_jax.data.sentences import says_nothing_new, takes_over, text_once
from ppg_jax.data.told import unheard
from ppg_jax.inference.generator import Completion, Generator
from ppg_jax.inference.inferring import finite


class Said(NamedTuple):
    """A response: its text, what was generated, and `Prompts.unread` of its prompt."""

    text: str
    completion: Completion
    unread: int


class Replying:
    """A response generator that is asked for instances.

    The text of a response has each sentence once, and none of an earlier one of the
    conversation, if another is there (`text_once`). One that `says_nothing_new` is
    generated once more without the self persona, one that `takes_over` what the partner
    is told no partner persona; each stays if that is no better.
    """

    def __init__(self, prompts: Prompts, generator: Generator, params):
        self._prompts, self._generator, self._params = prompts, generator, params

    def __call__(
        self,
        asked: Sequence[Instance],
        told: Sequence[Sequence[int] | None],
        numbers: Sequence[int],
        seed: int,
    ) -> list[Said]:
        """One for each instance, in their order.

        told: the tokens of the partner persona, None for none; numbers: one each; what
        is sampled derives from it and the seed.
        """
        said = self._said(asked, told, numbers, seed)
        alone = [dataclasses.replace(one, self_persona=()) for one in asked]
        nobody = [None] * len(asked)
        repeat = [
            n
            for n, one in enumerate(asked)
            if one.self_persona and _repeats(said[n], one)
        ]
        self._again(said, repeat, asked, (alone, told, numbers), seed)
        taken = [
            n
            for n, one in enumerate(asked)
            if told[n] is not None and _takes_over(said[n], one)
        ]
        self._again(said, taken, asked, (asked, nobody, numbers), seed)
        return said

    def _again(self, said: list[Said], places, asked, otherwise, seed: int) -> None:
        """Puts what is said otherwise in these places, where it is better.

        otherwise: instances, told and numbers, one each of all that were asked.
        """
        if not places:
            return
        values = ([of_all[n] for n in places] for of_all in otherwise)
        for n, other in zip(places, self._said(*values, seed), strict=True):
            if other.text and not (
                _repeats(other, asked[n]) or _takes_over(other, asked[n])
            ):
                said[n] = other

    def _said(self, asked: Sequence[Instance], told, numbers, seed) -> list[Said]:
        prompts, make = self._prompts, self._prompts.response_prompt
        rows = list(map(make, asked, told))
        others = map(unheard, asked if self._generator.decoding.contrast else ())
        without = list(map(make, others, told))
        # Odd, where personas have even ones: the two must not share their randomness.
        ids = [2 * number + 1 for number in numbers]
        limit = prompts.config.max_response_tokens
        written = self._generator(self._params, rows, seed, ids, limit, without)
        made = zip(finite("response", written), asked, told, strict=True)
        return [
            Said(
                text_once(prompts.text(completion.tokens), _earlier(instance)),
                completion,
                prompts.unread(instance, partner),
            )
            for completion, instance, partner in made
        ]


def _earlier(instance: Instance) -> Sequence[str]:
    return instance.context[-2::-2]


def _repeats(said: Said, instance: Instance) -> bool:
    return says_nothing_new(said.text, _earlier(instance))


def _takes_over(said: Said, instance: Instance) -> bool:
    own = (*instance.self_persona, *_earlier(instance))
    return takes_over(said.text, " ".join(instance.context[-1:]), own)
