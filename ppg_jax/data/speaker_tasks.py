"""What PAML reads of an instance, and which dialogues are of one speaker, its tasks.

It reads the conversation so far, all utterances joined, and no persona. Personas tell
only whose dialogues belong together: those of one base persona (`metrics.clusters`).
Where chance links more than half of the dialogues so, as in a corpus that draws traits,
the profiles must be equal, in any order.

Axes: M tasks, B rows, C words of a context, R words of a response with its start token,
N dialogues.
"""

import functools
from collections.abc import Sequence

import flax.struct
import jax
import numpy as np

from ppg_jax.data.dialogue import Dialogue, Instance
from ppg_jax.data.vocabulary import END, PAD, START, Vocabulary
from ppg_jax.metrics.clusters import base_personas, normalized

CONTEXT = 384  # words of a conversation that are read, the newest
RESPONSE = 64  # words of a response that are learned, its end token included
# What the numbers of words and rows are multiples of: there is a program for each.
CONTEXT_STEP, RESPONSE_STEP, ROW_STEP = 64, 16, 4


@flax.struct.dataclass
class Turns:
    """Instances side by side, padded with `PAD`; a row of padding has no word."""

    context: jax.Array  # int32 [B, C]
    response: jax.Array  # int32 [B, R]; between its start and its end

    @property
    def targets(self) -> jax.Array:
        """int32 [B, R-1]: what follows each word of the response but the last."""
        return self.response[..., 1:]

    @property
    def counted(self) -> jax.Array:
        """bool [B, R-1], True = a target."""
        return self.targets != PAD


def texts(dialogues: Sequence[Dialogue]) -> list[str]:
    """What a vocabulary is made of: what both say."""
    return [utterance for d in dialogues for utterance in d.utterances]


def read(
    vocabulary: Vocabulary,
    asked: Sequence[Instance | None],
    rows: int,
    whole: bool = False,
) -> Turns:
    """Instances -> `Turns` of so many rows; None is a row of padding.

    whole: responses are not cut to `RESPONSE`. A conversation that has not begun is the
    start token.
    """
    said = [_said(vocabulary, i, None if whole else RESPONSE) for i in asked]
    contexts = [_context(vocabulary, i) for i in asked]
    turns = Turns(
        _padding(rows, contexts, CONTEXT_STEP, 0),
        _padding(rows, said, RESPONSE_STEP, 1),
    )
    for row, (context, response) in enumerate(zip(contexts, said, strict=True)):
        turns.context[row, : len(context)] = context
        turns.response[row, : len(response)] = response
    return turns


def _context(vocabulary: Vocabulary, instance: Instance | None) -> list[int]:
    if instance is None:
        return []
    return vocabulary.encode(" ".join(instance.context))[-CONTEXT:] or [START]


def _said(
    vocabulary: Vocabulary, instance: Instance | None, longest: int | None
) -> list[int]:
    if instance is None:
        return []
    words = vocabulary.encode(instance.response)
    return [START, *words[: longest and longest - 1], END]


def _padding(rows: int, texts: Sequence[Sequence[int]], step: int, more: int):
    """[rows, W], W wide enough for all texts: `more` beside a multiple of the step."""
    wide = max(max(map(len, texts), default=0) - more, 1)
    return np.full((rows, more + -(-wide // step) * step), PAD, np.int32)


def read_tasks(
    vocabulary: Vocabulary, dialogues: Sequence[Dialogue | None], turns: int
) -> Turns:
    """The first `turns` responses of each dialogue: `Turns` of [M, B, ...], B wide
    enough for the dialogue with most."""
    said = [[*d.instances()][:turns] if d else [] for d in dialogues]
    rows = -(-max(1, *map(len, said)) // ROW_STEP) * ROW_STEP
    asked = [i for some in said for i in [*some, *[None] * (rows - len(some))]]
    flat = read(vocabulary, asked, len(asked))
    return jax.tree.map(lambda a: a.reshape(-1, rows, a.shape[-1]), flat)


def speakers(dialogues: Sequence[Dialogue]) -> np.ndarray:
    """Who self is in each dialogue: int [N], see the module's docstring."""
    profiles = [dialogue.self_persona for dialogue in dialogues]
    found = base_personas(profiles)
    if len(found) and 2 * np.bincount(found).max() > len(found):
        sets = [_profile(p) or i for i, p in enumerate(profiles)]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(sets))}
        found = np.array([numbers[key] for key in sets], np.int64)
    return found


def _profile(persona: Sequence[str]) -> frozenset[str]:
    return frozenset(map(normalized, persona)) - {""}


def tasks(dialogues: Sequence[Dialogue]) -> list[tuple[Dialogue, ...]]:
    """The dialogues of each speaker who has two or more in which they speak."""
    spoken = [d for d in dialogues if d.response_indices()]
    found: dict[int, list[Dialogue]] = {}
    for dialogue, speaker in zip(spoken, speakers(spoken).tolist(), strict=True):
        found.setdefault(speaker, []).append(dialogue)
    return [tuple(group) for group in found.values() if len(group) > 1]


class Others:
    """What else a speaker says in a split.

    most: how many dialogues at most, the first ones.
    """

    def __init__(self, dialogues: Sequence[Dialogue], most: int):
        self._dialogues = dialogues
        self._most = most
        numbers = speakers(dialogues).tolist()
        self._of: dict[int, list[int]] = {}
        for place, number in enumerate(numbers):
            self._of.setdefault(number, []).append(place)
        profiles = [_profile(d.self_persona) for d in dialogues]
        self._speaker = dict(zip(profiles, numbers, strict=True))
        self._speaker.pop(frozenset(), None)

    def __call__(self, instance: Instance) -> tuple[int, ...]:
        """The places of the other dialogues of whoever is to respond.

        None of them begins with the context that is asked: neither this dialogue, by
        whatever name, nor a copy of it, nor the partner's side of it is among them. So
        before anybody has said a word there are none.
        """
        speaker = self._speaker.get(_profile(instance.self_persona), -1)
        size = len(instance.context)
        places = [
            place
            for place in self._of.get(speaker, ())
            if self._dialogues[place].utterances[:size] != instance.context
        ]
        return tuple(places[: self._most])


class TaskBatches:
    """Step -> (what is adapted to, what is asked then) over any number of epochs; the
    same for the same arguments.

    An epoch has each speaker once, in a seeded order, with two dialogues, drawn too.
    number: of tasks M. turns: of a dialogue B.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        groups: Sequence[Sequence[Dialogue]],
        number: int,
        turns: int,
        seed: int,
    ):
        self._read = functools.partial(read_tasks, vocabulary, turns=turns)
        self._groups = groups
        self._number = number
        self._seed = seed

    @property
    def steps_per_epoch(self) -> float:
        return len(self._groups) / self._number

    def __call__(self, step: int) -> tuple[Turns, Turns]:
        """The tasks of update `step`, counted from 0 over all epochs."""
        first = step * self._number
        pairs = [self._pair(at) for at in range(first, first + self._number)]
        known, asked = zip(*pairs, strict=True)
        both = self._read([*known, *asked])  # of one width: fewer programs
        halves = (slice(self._number), slice(self._number, None))
        return tuple(jax.tree.map(lambda a, h=h: a[h], both) for h in halves)

    def _pair(self, at: int) -> tuple[Dialogue, Dialogue]:
        """Two dialogues of the speaker of task `at`, counted from 0 over all epochs."""
        epoch, place = divmod(at, len(self._groups))
        order = np.random.default_rng([self._seed, epoch]).permutation(
            len(self._groups)
        )
        group = self._groups[order[place]]
        rng = np.random.default_rng([self._seed, epoch, place])
        one, two = rng.choice(len(group), 2, replace=False)
        return group[one], group[two]
