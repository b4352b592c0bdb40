"""A vocabulary of whole words, for systems that learn their own from scratch.

Words are lower-case runs of letters, digits and underscores, or of anything else that
is no space: "Don't!" is "don", "'", "t", "!".

Words that the vocabulary has left out, or that nobody has ever seen, are one symbol to
a model. Published perplexities of such systems count that symbol's own probability for
each of them, which flatters a model: the more words it does not know, the better.
Here an unknown word costs more (`Vocabulary.unknown_nll`): the symbol's probability is
shared equally by the words of the training texts that were left out, and one more, for
all that occur nowhere in them. So a vocabulary cannot be made smaller for a better
score. What remains is small: different words that occur nowhere have each the whole of
that last share.
"""

import collections
import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppg_jax import files
from ppg_jax.errors import UserError

PAD, UNKNOWN, START, END = range(4)
# No text has them as words: a "<" ends one.
SPECIALS = ("<pad>", "<unknown>", "<start>", "<end>")
FILE = "vocabulary.json"
_WORDS = re.compile(r"\w+|[^\w\s]+")
_HINT = "delete the folder of this stage and train it again."


def split_words(text: str) -> list[str]:
    """The words of a text, as the module's docstring has them."""
    return _WORDS.findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows; the id of each is its place."""

    words: tuple[str, ...]  # `SPECIALS` first
    left_out: int = 0  # how many different words of the texts are not among them

    @classmethod
    def of(cls, texts: Iterable[str], most: int = 0, least: int = 1) -> "Vocabulary":
        """The words of `texts`, the most frequent first, those alike by their letters.

        most: how many at most, specials not counted; 0: all. least: how often a word
        must occur.
        """
        counts = collections.Counter(w for text in texts for w in split_words(text))
        known = [word for word, count in counts.items() if count >= least]
        known.sort(key=lambda word: (-counts[word], word))
        known = known[:most] if most else known
        return cls((*SPECIALS, *known), len(counts) - len(known))

    def __len__(self) -> int:
        return len(self.words)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """The id of each word, `UNKNOWN` where there is none; no start, no end."""
        return [self._ids.get(word, UNKNOWN) for word in split_words(text)]

    def text(self, ids: Iterable[int]) -> str:
        """The words with spaces between them; specials are left out."""
        return " ".join(self.words[i] for i in ids if i >= len(SPECIALS))

    def unknown_nll(self, ids: Sequence[int]) -> float:
        """Nats that the unknown words of a text cost beside the probability that a
        model gives to `UNKNOWN`; see the module's docstring."""
        return sum(i == UNKNOWN for i in ids) * math.log(self.left_out + 1)

    @property
    def sha256(self) -> str:
        """Of all that it says (hex)."""
        return hashlib.sha256(json.dumps(self._record()).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Writes `FILE`; the folder is made."""
        files.write_json(folder / FILE, self._record())

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """What `save` wrote.  Raises UserError where it is not."""
        path = folder / FILE
        record = files.read_json(path, _HINT)
        words, left_out = record.get("words"), record.get("left_out")
        texts = isinstance(words, list) and all(isinstance(w, str) for w in words)
        sound = (
            texts
            and tuple(words[: len(SPECIALS)]) == SPECIALS
            and len(set(words)) == len(words)
            and type(left_out) is int
            and left_out >= 0
        )
        if not sound:
            raise UserError(f"{path} is not as it was written; {_HINT}")
        return cls(tuple(words), left_out)

    def _record(self) -> dict:
        return {"words": list(self.words), "left_out": self.left_out}
