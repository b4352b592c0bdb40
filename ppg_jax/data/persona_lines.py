"""What PerCVAE reads of an instance, and what it says, as arrays of words.

As in Song et al.'s code: the last utterance alone and the speaker's own persona, line
by line, after a first line that holds nothing but the end token, which stands for no
persona at all.

Axes: B rows, U words of an utterance, P lines, W words of a line, R words of a response
with its start token, N instances.
"""

import functools
from collections.abc import Sequence

import flax.struct
import jax
import numpy as np

from ppg_jax.data.batching import epoch_order, rows_of
from ppg_jax.data.dialogue import Dialogue, Instance
from ppg_jax.data.vocabulary import END, PAD, START, Vocabulary

UTTERANCE = 30  # words, start and end token included
LINES = 6  # "none" and five sentences; PersonaChat has no more
LINE = 15  # words, end token included
STEP = 16  # what the number of words to say is a multiple of: a program for each


@flax.struct.dataclass
class Lines:
    """Instances side by side, padded with `PAD`; a row of padding has no response."""

    said: jax.Array  # int32 [B, U]; the last utterance, between its start and its end
    persona: jax.Array  # int32 [B, P, W]; each line with its end token
    response: jax.Array  # int32 [B, R]; between its start and its end

    @property
    def targets(self) -> jax.Array:
        """int32 [B, R-1]: what follows each word of the response but the last."""
        return self.response[:, 1:]

    @property
    def counted(self) -> jax.Array:
        """bool [B, R-1], True = a target."""
        return self.targets != PAD


def texts(dialogues: Sequence[Dialogue]) -> list[str]:
    """What a vocabulary is made of: what both say, and the persona that is read."""
    return [t for d in dialogues for t in (*d.utterances, *d.self_persona)]


def read(
    vocabulary: Vocabulary, asked: Sequence[Instance], rows: int, whole: bool = False
) -> Lines:
    """Instances -> `Lines` of so many rows.

    whole: responses are not cut to `UTTERANCE`, as the utterance before always is.
    """
    longest = None if whole else UTTERANCE
    responses = [_utterance(vocabulary, i.response, longest) for i in asked]
    wide = max(map(len, responses))
    lines = Lines(
        np.full((rows, UTTERANCE), PAD, np.int32),
        np.full((rows, LINES, LINE), PAD, np.int32),
        np.full((rows, 1 + -(-(wide - 1) // STEP) * STEP), PAD, np.int32),
    )
    for row, (instance, response) in enumerate(zip(asked, responses, strict=True)):
        last = instance.context[-1] if instance.context else ""
        said = _utterance(vocabulary, last, UTTERANCE)
        lines.said[row, : len(said)] = said
        lines.response[row, : len(response)] = response
        for place, line in enumerate(_persona(vocabulary, instance.self_persona)):
            lines.persona[row, place, : len(line)] = line
    return lines


def _utterance(vocabulary: Vocabulary, text: str, longest: int | None) -> list[int]:
    return _ended([START, *vocabulary.encode(text)], longest)


def _persona(vocabulary: Vocabulary, sentences: Sequence[str]) -> list[list[int]]:
    lines = [vocabulary.encode(s.strip(" .")) for s in sentences[: LINES - 1]]
    return [_ended(line, LINE) for line in ([], *lines)]


def _ended(words: list[int], longest: int | None) -> list[int]:
    """The words and the end token, which takes the place of one that is too many."""
    return [*words[: longest and longest - 1], END]


def word_weights(vocabulary: Vocabulary, dialogues: Sequence[Dialogue]) -> np.ndarray:
    """How much each word of a persona tells: float32 [V], less for a frequent one.

    The published list has .588 for a word that hardly occurs and .058 for the most
    frequent one, of counts that were not released, and falls as 1 / ln(count) does: so
    do these, by the counts in `texts`. The end token's is that of a word in each text.
    """
    known = texts(dialogues)
    counts = np.zeros(len(vocabulary))
    for text in known:
        np.add.at(counts, vocabulary.encode(text), 1)
    counts[[PAD, START, END]] = len(known)
    return (1 / np.log(np.maximum(counts, 1) + 4.5)).astype(np.float32)


class LineBatches:
    """Step -> `Lines` over any number of epochs; the same for the same arguments.

    Responses of like lengths come together.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        learned: Sequence[Instance],
        batch_size: int,
        seed: int,
    ):
        rows = rows_of(batch_size, len(learned))
        self._read = functools.partial(read, vocabulary, rows=rows)
        self._learned = learned
        self._size = batch_size
        lengths = np.array([len(vocabulary.encode(i.response)) for i in learned])
        # One epoch's order is kept: steps are asked for one after the other.
        self._order = functools.lru_cache(maxsize=1)(
            lambda epoch: epoch_order(lengths, batch_size, seed, epoch)
        )

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._learned) // self._size)

    def __call__(self, step: int) -> Lines:
        """The batch of update `step`, counted from 0 over all epochs."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._read([self._learned[i] for i in self._order(epoch)[index]])
