"""Partner personas by one generator: of what was said last, or along a conversation."""

import math
from collections.abc import Sequence

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.prompts import Prompts
from ppg_jax.data.sentences import sentences
from ppg_jax.data.told import grounded_persona, moments, told_persona, unheard
from ppg_jax.errors import UserError
from ppg_jax.inference.generator import Completion, Generator
from ppg_jax.inference.requests import PartnerPersona

KNOWN = 8192  # prompts with what was written for them, those asked last: some hundred
# conversations, some ten megabytes


class Inferring:
    """A persona generator that is asked for instances.

    grounded: a persona is what the partner has said of all that is inferred after each
    of the partner's utterances (`grounded_persona`). What was inferred greedily earlier
    in a conversation is remembered, so that its next utterance asks for one more; what
    is sampled is drawn anew for each request.
    """

    def __init__(self, prompts: Prompts, generator: Generator, params, grounded: bool):
        self._prompts, self._params, self._grounded = prompts, params, grounded
        self._generator, self._decoding = generator, generator.decoding
        self._known: dict[tuple[int, ...], Completion] = {}

    def __call__(
        self, asked: Sequence[Instance], numbers: Sequence[int], seed: int
    ) -> list[PartnerPersona]:
        """One for each instance, in their order.

        numbers: one each; what is sampled derives from it and the seed.
        """
        along = [moments(i) if self._grounded else [i] for i in asked]
        owners = [n for n, some in zip(numbers, along, strict=True) for _ in some]
        every = [moment for some in along for moment in some]
        written = iter(self._written(every, owners, seed))
        return [self._told(some, [next(written) for _ in some]) for some in along]

    def _written(self, asked: Sequence[Instance], numbers, seed) -> list[Completion]:
        """What the generator writes, for each prompt once."""
        prompt, decoding = self._prompts.persona_prompt, self._decoding
        prompts = [prompt(instance) for instance in asked]
        keys = list(map(tuple, prompts))
        if not decoding.greedy:
            drawn = zip(numbers, keys, strict=True)
            keys = [(seed, number, *key) for number, key in drawn]
        before = self._known  # another thread may put another in its place
        known = {key: before[key] for key in keys if key in before}
        new = {key: n for n, key in enumerate(keys) if key not in known}
        rows = [prompts[n] for n in new.values()]
        without = [prompt(unheard(asked[n])) for n in new.values() if decoding.contrast]
        # Even, where responses have odd ones: the two must not share their randomness.
        ids = [2 * numbers[n] for n in new.values()]
        limit = self._prompts.config.max_persona_tokens
        said = self._generator(self._params, rows, seed, ids, limit, without)
        known |= zip(new, finite("persona", said), strict=True)
        if self._grounded:
            kept = {k: v for k, v in self._known.items() if k not in known}
            self._known = dict([*kept.items(), *known.items()][-KNOWN:])
        return [known[key] for key in keys]

    def _told(
        self, along: Sequence[Instance], written: Sequence[Completion]
    ) -> PartnerPersona:
        told = [
            told_persona(self._prompts, each.tokens, instance, each.ended)
            for each, instance in zip(written, along, strict=True)
        ]
        tokens = told[-1]
        if self._grounded:
            tokens = grounded_persona(self._prompts, told, along)
        text = self._prompts.text(tokens)
        return PartnerPersona(text, sentences(text), tuple(tokens), *written[-1][1:])


def finite(name: str, completions: list[Completion]) -> list[Completion]:
    """They; UserError if their probabilities are none, as of weights gone wild."""
    if not all(math.isfinite(completion.log_prob) for completion in completions):
        raise UserError(
            f"the {name} generator gives probabilities that are not finite: its weights"
            " are broken; train it again with a lower learning rate."
        )
    return completions
