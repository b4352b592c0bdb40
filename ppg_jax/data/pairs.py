"""Pairs of a profile and a response, related or not: what a critic reads.

Axes: B pairs, T tokens.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.data.batching import epoch_order, rows_of
from ppg_jax.data.dialogue import Dialogue, profile_text
from ppg_jax.data.tokenization import end_of
from ppg_jax.errors import UserError
from ppg_jax.metrics.clusters import normalized

KINDS = ("self", "partner")
LIMITS = ("max_instances", "validation_instances", "evaluate_instances")
COUPLE = 4  # pairs: two responses, each with both profiles
PATIENCE = 256  # couples tried before profiles with a sentence in common are coupled
UNRELATED, RELATED = 0, 1

# Padded lengths are multiples of it: a pair of PersonaChat has 60 tokens or so.
LENGTH_STEP = 16


class Pair(NamedTuple):
    """A profile and a response, and whether they belong together."""

    profile_text: str
    response: str
    label: int  # RELATED or UNRELATED
    instance_id: str  # whose response it is


class _Turn(NamedTuple):
    """An instance as the matching sees it."""

    conversation: int  # equal for both sides of one conversation
    profile: str
    sentences: frozenset[str]  # the profile's, normalised
    response: str
    instance_id: str


def pairs(
    dialogues: Sequence[Dialogue], persona: str, seed: int, max_instances: int = 0
) -> list[Pair]:
    """Each instance's response with its own profile, and with a stranger's.

    A seeded perfect matching couples instances of different conversations whose
    profiles have no sentence in common: in another order, or with a sentence left out,
    a profile is still the speaker's own (0.9 % of PersonaChat's test pairs, where texts
    were compared). Only where too many share one, such profiles are coupled, too. The
    two profiles of a couple change places in its unrelated pairs. With an odd number
    the last response gets the profile of any earlier instance. So the labels are
    balanced exactly, and no response (with an even number, no profile) alone tells
    them. persona: "self", "partner", or "both", the union. Instances without a profile
    are left out. max_instances: how many, drawn by the seed; 0 is all. The four pairs
    of a couple follow each other.

    Raises:
      UserError: too few different profiles to match.
    """
    kinds = KINDS if persona == "both" else (persona,)
    made = [_pairs(dialogues, kind, seed, max_instances) for kind in kinds]
    # An odd instance's two pairs, which are no couple, go to the end.
    couples = [pairs[: len(pairs) // COUPLE * COUPLE] for pairs in made]
    rest = [pairs[len(pairs) // COUPLE * COUPLE :] for pairs in made]
    return [pair for pairs in couples + rest for pair in pairs]


def _pairs(dialogues, kind: str, seed: int, max_instances: int) -> list[Pair]:
    turns = _turns(dialogues, kind)
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    order = rng.permutation(len(turns))[: max_instances or None]
    drawn = [turns[i] for i in order]
    made = []
    for own, stranger in _strangers(drawn, rng).items():
        turn = drawn[own]
        response, name = turn.response, turn.instance_id
        made.append(Pair(turn.profile, response, RELATED, name))
        made.append(Pair(drawn[stranger].profile, response, UNRELATED, name))
    return made


def _turns(dialogues: Sequence[Dialogue], kind: str) -> list[_Turn]:
    conversations: dict[tuple[str, ...], int] = {}
    turns = []
    for dialogue in dialogues:
        number = conversations.setdefault(dialogue.utterances, len(conversations))
        own = kind == "self"
        persona = dialogue.self_persona if own else dialogue.partner_persona
        profile, sentences = profile_text(persona), frozenset(map(normalized, persona))
        if profile:
            turns += [
                _Turn(number, profile, sentences, instance.response, instance.id)
                for instance in dialogue.instances()
            ]
    return turns


def _strangers(turns: Sequence[_Turn], rng) -> dict[int, int]:
    """For each turn, in random order already, the one whose profile it gets.

    The members of a couple follow each other.
    """

    def apart(i: int, j: int) -> bool:
        a, b = turns[i], turns[j]
        strange = a.sentences.isdisjoint(b.sentences)
        return strange and a.conversation != b.conversation

    def unlike(i: int, j: int) -> bool:
        a, b = turns[i], turns[j]
        return a.conversation != b.conversation and a.sentences != b.sentences

    couples = [[i, i + 1] for i in range(0, len(turns) - 1, 2)]
    # One instance alone is unlike nobody.
    solvable = bool(couples)
    for couple in couples:
        solvable &= (
            apart(*couple)
            or _exchange(couple, couples, apart, rng, PATIENCE)
            or unlike(*couple)
            or _exchange(couple, couples, unlike, rng, len(couples))
        )
    strangers = {i: j for couple in couples for i, j in (couple, couple[::-1])}
    if len(turns) % 2:
        last = len(turns) - 1
        possible = [i for i in range(last) if apart(i, last)]
        possible = possible or [i for i in range(last) if unlike(i, last)]
        strangers[last] = int(rng.choice(possible)) if possible else last
        solvable &= bool(possible)
    if not solvable:
        raise UserError(
            f"{len(turns)} instances with {len({t.profile for t in turns})} different "
            "profiles cannot be matched as strangers; give the critic more dialogues, "
            f"or raise what limits their number: {', '.join(LIMITS)} (0 is no limit)."
        )
    return strangers


def _exchange(
    couple: list[int], couples: list[list[int]], unlike, rng, most: int
) -> bool:
    """Mends a couple of likes by exchanging a member with one of `most` others."""
    start = int(rng.integers(len(couples)))
    for number in range(min(most, len(couples))):
        other = couples[(start + number) % len(couples)]
        for i in (0, 1):
            if unlike(couple[0], other[i]) and unlike(couple[1], other[1 - i]):
                couple[1], other[i] = other[i], couple[1]
                return True
    return False


class PairEncoder:
    """Profile and response -> `[CLS] profile [SEP] response [SEP]`, at most max_length.

    With the tokenizer of a decoder, which has no such tokens, an end token stands after
    each of the two. The profile's end goes first when both are too long, then the
    response's.
    """

    def __init__(self, tokenizer, max_length: int):
        self._start: list[int] = []
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            self._end = end_of(tokenizer)
        else:
            self._start, self._end = [tokenizer.cls_token_id], tokenizer.sep_token_id
        self._room = max_length - len(self._start) - 2
        self._tokenizer = tokenizer.backend_tokenizer
        # Files of sentence encoders ask for every text to be padded and cut to 128.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # Nobody ends a persona by typing "[SEP]".
        self._tokenizer.encode_special_tokens = True

    def __call__(
        self, profiles: Sequence[str], responses: Sequence[str]
    ) -> list[np.ndarray]:
        """Tokens of each pair, int32 [T]; a text that several have is read once."""
        heads, tails = self._encode(profiles), self._encode(responses)
        return [
            self._join(heads[profile], tails[response])
            for profile, response in zip(profiles, responses, strict=True)
        ]

    def _encode(self, texts: Sequence[str]) -> dict[str, list[int]]:
        unique = list(dict.fromkeys(texts))
        encoded = self._tokenizer.encode_batch(unique, add_special_tokens=False)
        return {text: e.ids for text, e in zip(unique, encoded, strict=True)}

    def _join(self, profile: list[int], response: list[int]) -> np.ndarray:
        response = response[: self._room]
        profile = profile[: self._room - len(response)]
        joined = [*self._start, *profile, self._end, *response, self._end]
        return np.array(joined, np.int32)


@flax.struct.dataclass
class PairBatch:
    """Pairs side by side, padded on the right; a row of padding has length 0."""

    tokens: jax.Array  # int32 [B, T]
    lengths: jax.Array  # int32 [B]
    labels: jax.Array  # int32 [B]

    @property
    def attention_mask(self) -> jax.Array:
        """bool [B, T], True = a real token."""
        return jnp.arange(self.tokens.shape[1])[None] < self.lengths[:, None]


def collate(rows: Sequence[np.ndarray], labels: Sequence[int], height: int):
    """Token rows and labels -> a `PairBatch` of `height` rows."""
    width = -(-max(map(len, rows)) // LENGTH_STEP) * LENGTH_STEP
    batch = PairBatch(
        tokens=np.zeros((height, width), np.int32),
        lengths=np.zeros(height, np.int32),
        labels=np.zeros(height, np.int32),
    )
    for i, row in enumerate(rows):
        batch.tokens[i, : len(row)] = row
        batch.lengths[i] = len(row)
    batch.labels[: len(rows)] = labels
    return batch


class PairBatches:
    """Step -> batch over any number of epochs; the same for the same arguments.

    A couple's four pairs come in one batch: what a profile or a response tells by
    itself cancels there, and what they tell together is left. (Pair by pair, the
    quickstart's critic did not learn: docs/tried.md.)
    """

    def __init__(
        self, encoder: PairEncoder, made: Sequence[Pair], size: int, seed: int
    ):
        rows = encoder([p.profile_text for p in made], [p.response for p in made])
        labels = [p.label for p in made]
        starts = range(0, len(made), COUPLE)
        self._couples = [
            (rows[at : at + COUPLE], labels[at : at + COUPLE]) for at in starts
        ]
        self._lengths = np.array([max(map(len, rows)) for rows, _ in self._couples])
        self._size, self._couples_at_once = size, size // COUPLE
        # One epoch's order is kept: steps are asked for one after the other.
        self._order = functools.lru_cache(maxsize=1)(
            lambda epoch: epoch_order(self._lengths, self._couples_at_once, seed, epoch)
        )

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._couples) // self._couples_at_once)

    def __call__(self, step: int) -> PairBatch:
        """The batch of update `step`, counted from 0 over all epochs."""
        epoch, index = divmod(step, self.steps_per_epoch)
        chosen = [self._couples[i] for i in self._order(epoch)[index]]
        rows = [row for couple, _ in chosen for row in couple]
        labels = [label for _, couple in chosen for label in couple]
        height = rows_of(self._size, COUPLE * len(self._couples))
        return collate(rows, np.array(labels, np.int32), height)
