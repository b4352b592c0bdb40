"""Numbers that a sentence tells, and a sentence without those that nobody said.

A generator that has heard "sons" writes "i have four sons": how many is its guess.
Values from 2 on, for "one" and "first" say other things as well.
"""

import itertools
import re
from collections.abc import Collection, Iterable

_WORDS = re.compile(r"\d{1,18}|[a-z]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_ONES = _WORDS.findall("""
    two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
""")
_TENS = _WORDS.findall("twenty thirty forty fifty sixty seventy eighty ninety")
_VALUES = {word: n for n, word in enumerate(_ONES, 2)}
_VALUES |= {word: 10 * n for n, word in enumerate(_TENS, 2)}
_VALUES |= {f"{word[:-1]}ieth": _VALUES[word] for word in _TENS}
_VALUES |= {f"{word}th": n for n, word in enumerate(_ONES, 2)}
_VALUES |= {"second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12}
_VALUES |= {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000}
# By these people tell how many without a number.
_MEANT = {"couple": 2, "pair": 2, "twin": 2, "twins": 2, "both": 2, "triplets": 3}
# A plural between such a word and the end of a phrase does without its number.
_BEFORE = frozenset(_WORDS.findall("and had has have of my own with"))
_MEASURES = frozenset(
    _WORDS.findall("feet hours inches lbs miles months pounds times years")
)


def numbers(text: str) -> set[int]:
    """The values from 2 on of a text's words, one by one: 20 and 5 of "twenty five"."""
    return {value for value in map(_value, _words(text)) if value > 1}


def said_numbers(heard: Iterable[str]) -> set[int]:
    """What `numbers` may tell after these texts: 25, 20 and 5 after "twenty five" and
    after "25", 400 after "four hundred", 2 after "a couple" and the like.
    """
    said = set()
    for text in heard:
        words = _words(text)
        values = [max(_value(word), _MEANT.get(word, 0)) for word in words]
        for value in values:
            said |= {value, value // 10 * 10, value % 10} if value < 100 else {value}
        for one, next_ in itertools.pairwise(values):
            said |= {one + next_, one * next_}
    return said


def without_unsaid(sentence: str, said: Collection[int]) -> str:
    """The sentence if it tells no other numbers; else without these where a plural that
    they count stays ("i have four sons." -> "i have sons."); "" where none does.
    """
    words, kept = ["", *sentence.split(), ""], []
    for before, word, behind in zip(words, words[1:], words[2:], strict=False):
        if numbers(word) <= set(said):
            kept.append(word)
        elif before not in _BEFORE or not _is_plural(behind):
            return ""
    return " ".join(kept) if len(kept) < len(words) - 2 else sentence


def _is_plural(word: str) -> bool:
    word = word.rstrip(".,!?;")
    ends = word.endswith("s") or word in ("children", "people")
    return ends and word not in _MEASURES


def _words(text: str) -> list[str]:
    return _WORDS.findall(_THOUSANDS.sub("", text.lower()))


def _value(word: str) -> int:
    return int(word) if word.isdecimal() else _VALUES.get(word, 0)
