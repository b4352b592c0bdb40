"""Dialogue -> tokens: the only place that knows order, prefixes and separators.

Turns and personas are segments that end with the end token, as in DialoGPT. With the
default order and style (END stands for the end token):

    persona generator   your persona: i have two dogs. i sing.END hi !END hello .END
                        partner's persona:| i am a nurse. i love tea.END
    response generator  your persona: i have two dogs. i sing.END
                        partner's persona: i am a nurse. i love tea.END
                        hi !END hello .END how are you ?END| great !END

Left of | is the prompt, right of it the completion. A generated persona is a completion
of the first that goes into the second as it is, token by token.

What is learned or scored is one `Example`, a causal pass.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ppg_jax.config import require_count, require_one_of, require_positive
from ppg_jax.data import tokenization
from ppg_jax.data.dialogue import Dialogue, Instance, profile_text
from ppg_jax.data.normalization import FORMS
from ppg_jax.data.passes import Example, example
from ppg_jax.data.said import as_given
from ppg_jax.errors import UserError

CUES = {
    "text": ("your persona:", "partner's persona:"),
    "tokens": ("<|self|>", "<|partner|>"),
}
ORDERS = ("persona_first", "context_first")
JOINTS = {"space": " ", "newline": "\n"}
MOST_KNOWN = 20_000_000  # characters of texts whose tokens are remembered: 0.3 GB


@dataclasses.dataclass(frozen=True)
class PromptConfig:
    """The form of a prompt; the paper leaves it open (docs/differences.md).

    order: what comes first, the personas or the dialogue. style: the cues before a
    persona are text, or special tokens. joint: between the sentences of a persona.
    text: the form of what the model learned from, into which is brought what people
    type (`normalization`), not the data.
    Prompt and completion together have at most `max_length` tokens, and `max_turns` of
    the context: the oldest turns go first, then the beginning of the newest, personas
    never; room is kept for completions of the two maximal lengths.
    """

    order: str = "persona_first"
    style: str = "text"
    joint: str = "space"
    text: str = "personachat"
    max_length: int = 448  # tokens
    max_turns: int = 0  # utterances; 0 is all
    max_persona_tokens: int = 72  # that a generator writes at most
    max_response_tokens: int = 32  # likewise

    def __post_init__(self):
        require_one_of(self, order=ORDERS, style=CUES, joint=JOINTS, text=FORMS)
        require_count(self, "max_turns")
        require_positive(self, "max_length")
        require_positive(self, "max_persona_tokens", "max_response_tokens")

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """What the tokenizer must know as one token each."""
        return CUES["tokens"] if self.style == "tokens" else ()


def layout(config: PromptConfig) -> dict[str, str]:
    """The prompt of each generator for an example, by its name; END is the end token.

    Who continues them with other programs needs no more than this.
    """
    joint, (self_cue, partner_cue) = JOINTS[config.joint], CUES[config.style]
    before = joint if config.style == "text" else ""
    me = f"{self_cue}{before}i have two dogs.{joint}i sing.END"
    partner, said = f"{partner_cue}{before}i am a nurse.END", "hi !END"
    if config.order == "context_first":
        return {"persona": said + me + partner_cue, "response": said + me + partner}
    return {"persona": me + said + partner_cue, "response": me + partner + said}


class Prompts:
    """Turns text to tokens and back, with one tokenizer and one `PromptConfig`."""

    def __init__(self, tokenizer, config: PromptConfig):
        self.tokenizer, self.config = tokenizer, config
        self.end_id: int = tokenization.end_of(tokenizer)
        self._known, self._room = {}, MOST_KNOWN
        self.cut: dict[str, int] = {}  # instance -> tokens of its response
        # What people write stays text: nobody ends a turn by typing the end token.
        tokenizer.backend_tokenizer.encode_special_tokens = True
        self._self_cue, self._partner_cue = map(self._cue, CUES[config.style])

    def prime(self, dialogues: Iterable[Dialogue]) -> None:
        """Tokenizes all their utterances in one go, which is ten times faster."""
        new = {u for d in dialogues for u in d.utterances} - self._known.keys()
        texts = sorted(new)
        encoded = self.tokenizer.backend_tokenizer.encode_batch(
            texts, add_special_tokens=False
        )
        self._known |= {t: e.ids for t, e in zip(texts, encoded, strict=True)}

    def text(self, tokens: Sequence[int]) -> str:
        """Completion tokens, without the end token -> text."""
        said = self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return said.strip()

    def persona_target(self, persona: Sequence[str]) -> list[int]:
        """A profile as the persona generator writes it, with the end token."""
        joint = JOINTS[self.config.joint]
        text = profile_text(persona, joint)
        if self.config.style == "text":
            text = joint + text  # GPT-2's words carry the space before them
        return [*self._encode(text), self.end_id]

    def generated_persona(self, tokens: Sequence[int]) -> list[int]:
        """A completion without its end token -> with it, at most the maximum long.

        A completion that was cut before its end gives up its last token for the end.
        """
        return [*tokens[: self.config.max_persona_tokens - 1], self.end_id]

    def response_target(self, response: str) -> list[int]:
        """A response as the response generator writes it, with the end token."""
        return self._turn(response)

    def persona_prompt(self, instance: Instance, room: int = 0) -> list[int]:
        """What the persona generator continues; `room`: tokens of the target."""
        fixed = self._self_segment(instance)
        room = max(room, self.config.max_persona_tokens) + len(self._partner_cue)
        context = self._context(instance, len(fixed) + room)
        if self.config.order == "context_first":
            return context + fixed + self._partner_cue
        return fixed + context + self._partner_cue

    def response_parts(
        self, instance: Instance, room: int = 0
    ) -> tuple[list[int], list[int]]:
        """The prompt before and after the tokens of the partner persona.

        room: tokens that persona and response may take; at least the two maxima.
        """
        config = self.config
        fixed = self._self_segment(instance) + self._partner_cue
        room = max(room, config.max_persona_tokens + config.max_response_tokens)
        context = self._context(instance, len(fixed) + room)
        if config.order == "context_first":
            return context + fixed, []
        return fixed, context

    def response_prompt(
        self, instance: Instance, partner: Sequence[int] | None, room: int = 0
    ) -> list[int]:
        """What the response generator continues.

        partner: the tokens of the partner persona with the end token (a persona
        generator's completion, or `persona_target`); None leaves the segment out.
        """
        room = max(room, self.config.max_response_tokens)
        if partner is not None:
            before, after = self.response_parts(instance, room + len(partner))
            return before + list(partner) + after
        fixed = self._self_segment(instance)
        context = self._context(instance, len(fixed) + room)
        first = self.config.order == "context_first"
        return context + fixed if first else fixed + context

    def unread(self, instance: Instance, partner: Sequence[int] | None) -> int:
        """How many tokens of the newest utterance, at its beginning, have no room in
        `response_prompt`."""
        if not instance.context:
            return 0
        config, fixed = self.config, len(self._self_segment(instance))
        taken = config.max_response_tokens
        if partner is not None:
            taken += max(len(partner), config.max_persona_tokens)
            taken += len(self._partner_cue)
        left = config.max_length - taken - fixed
        return max(0, len(self._turn(instance.context[-1])) - left)

    def persona_example(self, instance: Instance) -> Example:
        """One instance of the persona generator's task."""
        target = self.persona_target(instance.partner_persona)
        prompt = self.persona_prompt(instance, len(target))
        return example([(prompt, 0), (target, 1)], [], (instance.id,))

    def response_example(
        self, instance: Instance, partner: Sequence[int] | None
    ) -> Example:
        """One instance of the response generator's task, given a partner persona."""
        target = self._cut(instance, partner)
        prompt = self.response_prompt(instance, partner, len(target))
        return example([(prompt, 0), (target, 1)], [], (instance.id,))

    def persona_dialogue(
        self, dialogue: Dialogue, order: Callable[[Instance], Instance] = as_given
    ) -> list[Example]:
        """Those of a persona generator, in one of `said.ORDERS`, prefixes shared."""
        instances = [order(instance) for instance in dialogue.instances()]
        if not instances:
            return []
        targets = [self.persona_target(i.partner_persona) for i in instances]
        room = max(self.config.max_persona_tokens, *map(len, targets))
        fixed, tail = self._self_segment(dialogue), self._partner_cue
        if not self._fits(dialogue, len(fixed) + room + len(tail)):
            return [self.persona_example(i) for i in instances]
        first = self.config.order == "context_first"
        trunk, tail = ([], fixed + tail) if first else ([(fixed, 0)], tail)
        turns = [(self._turn(u), 0) for u in instances[-1].context]
        ends = np.cumsum([sum(len(p) for p, _ in trunk), *(len(t) for t, _ in turns)])
        branches = [
            (int(ends[len(i.context)]), [(tail, 0), (target, n)])
            for n, (i, target) in enumerate(zip(instances, targets, strict=True), 1)
        ]
        return [example(trunk + turns, branches, tuple(i.id for i in instances))]

    def response_dialogue(
        self, dialogue: Dialogue, partner: Sequence[int] | None
    ) -> list[Example]:
        """All instances of a dialogue for the response generator, prefixes shared."""
        config, instances = self.config, list(dialogue.instances())
        if not instances:
            return []
        persona = self._self_segment(dialogue)
        room = config.max_response_tokens
        if partner is not None:
            persona = persona + self._partner_cue + list(partner)
            room += max(config.max_persona_tokens - len(partner), 0)
        nested = config.order == "persona_first"
        if not nested or not self._fits(dialogue, len(persona) + room):
            return [self.response_example(i, partner) for i in instances]
        number = {len(i.context): n for n, i in enumerate(instances, 1)}
        last = len(instances[-1].context)
        turns = [
            (self._turn(u), number.get(i, 0))
            for i, u in enumerate(dialogue.utterances[: last + 1])
        ]
        return [example([(persona, 0), *turns], [], tuple(i.id for i in instances))]

    def dialogue_example(
        self, dialogue: Dialogue, partner: Sequence[int] | None
    ) -> Example:
        """A whole dialogue as text: the personas and every turn are targets.

        The cues are none, nor is the first token or the end that stands for a missing
        self persona. What goes beyond `max_length` tokens is left out at the end.
        """
        personas = [
            (self._self_cue, 0),
            (self.persona_target(dialogue.self_persona), 1),
        ]
        if not dialogue.self_persona:
            personas = [(self._self_segment(dialogue), 0)]
        if partner is not None:
            personas += [(self._partner_cue, 0), (list(partner), 1)]
        turns = [(self._turn(u), 1) for u in dialogue.utterances]
        first = self.config.order == "context_first"
        pieces = turns + personas if first else personas + turns
        whole = example(pieces, [], (dialogue.id,))
        whole.target_of[0] = 0
        columns = [f.name for f in dataclasses.fields(Example) if f.name != "ids"]
        end = self.config.max_length
        kept = {name: getattr(whole, name)[:end] for name in columns}
        return dataclasses.replace(whole, **kept)

    def _encode(self, text: str) -> list[int]:
        ids = self._known.get(text)  # another thread may be at it, too
        if ids is None:
            self._make_room(len(text))
            backend = self.tokenizer.backend_tokenizer
            ids = backend.encode(text, add_special_tokens=False).ids
            self._known[text] = ids
        return ids

    def _make_room(self, letters: int) -> None:
        self._room -= letters
        if self._room < 0:
            self._known, self._room = {}, MOST_KNOWN - letters

    def _cue(self, text: str) -> list[int]:
        if self.config.style == "text":
            return self._encode(text)
        token = self.tokenizer.convert_tokens_to_ids(text)
        assert token is not None, f"the tokenizer does not know {text}"
        return [token]

    def _turn(self, utterance: str) -> list[int]:
        return [*self._encode(utterance), self.end_id]

    def _cut(self, instance: Instance, partner: Sequence[int] | None) -> list[int]:
        """The response as a target; of one that fits beside no context, a part.

        It has no end then, so that none is learned where nobody ended.
        """
        target, taken = self.response_target(instance.response), 0
        if partner is not None:
            taken = len(self._partner_cue) + len(partner)
        left = self.config.max_length - taken - len(self._self_segment(instance))
        if len(target) <= max(left, self.config.max_response_tokens):
            return target
        self.cut[instance.id] = len(target)
        return target[: max(left // 2, self.config.max_response_tokens)]

    def _self_segment(self, instance: Instance | Dialogue) -> list[int]:
        if not instance.self_persona:
            return [self.end_id]  # a prompt is never empty: something precedes a target
        return self._self_cue + self.persona_target(instance.self_persona)

    def _context(self, instance: Instance, taken: int) -> list[int]:
        """The newest turns that fit beside `taken` tokens, oldest first.

        Of a newest turn that does not fit by itself, the end.
        """
        left = self.config.max_length - taken
        if left < 0:
            raise UserError(
                f"instance {instance.id}: its personas and the room for completions "
                f"take {taken} tokens, prompts.max_length is {self.config.max_length}; "
                "raise it or shorten the personas."
            )
        turns: list[list[int]] = []
        for utterance in reversed(instance.context[-self.config.max_turns :]):
            turn = self._turn(utterance)
            if len(turn) > left:
                if not turns:  # at least the end of what is to be answered
                    turns.append(turn[len(turn) - left :])
                break
            left -= len(turn)
            turns.append(turn)
        return [token for turn in reversed(turns) for token in turn]

    def _fits(self, dialogue: Dialogue, taken: int) -> bool:
        """Whether no instance of the dialogue loses a turn."""
        indices = dialogue.response_indices()
        all_turns = not 0 < self.config.max_turns < indices[-1]
        turns = [len(self._turn(u)) for u in dialogue.utterances[: indices[-1] + 1]]
        room = max(0, *(turns[i] - self.config.max_response_tokens for i in indices))
        return all_turns and taken + room + sum(turns[:-1]) <= self.config.max_length
