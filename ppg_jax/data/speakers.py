"""Dialogue -> tokens as TransferTransfo reads them, each with who says it.

Wolf et al., 2019, https://arxiv.org/abs/1901.08149. The self persona comes first, then
the last turns, each behind its speaker's token; partner personas are not told. Below
stands with END for the end token, ME and YOU for those of the speakers, what is read
and who says it:

    END i have two dogs. i sing. YOU hi ! ME hello . YOU how are you ? ME| great !END
    ME  ME ...                   YOU ...  ME ...     YOU ...           ME  ME ...

Left of | is the prompt, right of it the completion.

So its authors' code has it, where their paper has a third embedding for personas: what
self says and is are one speaker's, what the partner says the other's. Theirs counts
segments from the beginning, which is the same where the newest is the partner's and
their number is odd, as it is unless self speaks first.

A number is a token and who says it: token + (V + 2) * speaker; the tokens of the
speakers are V and V + 1, V being the model's vocabulary.
"""

from collections.abc import Sequence

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.passes import Example, example
from ppg_jax.data.prompts import Prompts
from ppg_jax.errors import UserError

SELF, PARTNER = 0, 1
SPEAKERS = 2


class Spoken:
    """Makes these of instances, within the limits of `prompts`.

    vocabulary: of the model. max_history: exchanges before the newest utterance that
    are read, the newest 2 n + 1 utterances in all, or `prompts.max_turns` if fewer.
    """

    def __init__(self, prompts: Prompts, vocabulary: int, max_history: int):
        self.prompts, self._size = prompts, vocabulary
        turns = 2 * max_history + 1
        self._turns = min(turns, prompts.config.max_turns or turns)

    def prompt(self, instance: Instance, room: int = 0) -> list[int]:
        """What is continued; `room`: tokens of the completion.

        The oldest turns go where there is too little, then the newest one's beginning.
        """
        limits = self.prompts.config
        fixed = self._persona(instance)
        left = limits.max_length - max(room, limits.max_response_tokens)
        left -= len(fixed) + 1
        if left < 0:
            raise UserError(
                f"instance {instance.id}: its persona and the room for a response take "
                f"{limits.max_length - left} tokens, prompts.max_length is "
                f"{limits.max_length}; raise it or shorten the persona."
            )
        turns: list[list[int]] = []
        newest = instance.context[::-1][: self._turns]
        for number, utterance in enumerate(newest):
            speaker = SELF if number % 2 else PARTNER
            said = self._numbers(self.prompts.response_target(utterance)[:-1], speaker)
            turn = [self._speaker(speaker), *said]
            if len(turn) > left:
                if not turns and left:  # at least the end of what is to be answered
                    turns.append([turn[0], *turn[len(turn) - left + 1 :]])
                break
            left -= len(turn)
            turns.append(turn)
        context = [number for turn in reversed(turns) for number in turn]
        return fixed + context + [self._speaker(SELF)]

    def example(self, instance: Instance, distractors: Sequence[str] = ()) -> Example:
        """One pass over all candidates, which branch off the prompt's end.

        The last branch is the gold response, the only target.
        """
        said = [self._reply(instance, t) for t in (*distractors, instance.response)]
        whole = len(self.prompts.response_target(instance.response))
        if len(said[-1]) < whole:
            self.prompts.cut[instance.id] = whole
        *trunk, last = self.prompt(instance, max(map(len, said)))
        branches = [
            (len(trunk), [([last], 0), (reply, int(n == len(said)))])
            for n, reply in enumerate(said, 1)
        ]
        return example([(trunk, 0)], branches, (instance.id,))

    def _persona(self, instance: Instance) -> list[int]:
        if not instance.self_persona:
            return [self.prompts.end_id]
        told = self.prompts.persona_target(instance.self_persona)
        return [self.prompts.end_id, *told[:-1]]

    def _reply(self, instance: Instance, text: str) -> list[int]:
        """With its end; of one that fits beside no context, a part without."""
        limits, reply = self.prompts.config, self.prompts.response_target(text)
        left = limits.max_length - len(self._persona(instance)) - 1
        if len(reply) <= max(left, limits.max_response_tokens):
            return reply
        return reply[: max(left // 2, limits.max_response_tokens)]

    def _speaker(self, speaker: int) -> int:
        [number] = self._numbers([self._size + speaker], speaker)
        return number

    def _numbers(self, tokens: Sequence[int], speaker: int) -> list[int]:
        return [token + (self._size + SPEAKERS) * speaker for token in tokens]
