"""Numbers that a sentence tells, and a sentence without those that nobody said.

A generator that has heard "sons" writes "i have four sons": how many is its guess.
Values from 2 on, for "one" and "first" say other things as well.
"""

import functools
import re
from collections.abc import Iterable, Sequence

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
_VALUES |= {"dozen": 12, "hundred": 100, "thousand": 1000, "k": 1000}
_VALUES |= {"million": 1_000_000}
# By these people tell how many without a number.
_MEANT = {"couple": 2, "pair": 2, "twin": 2, "twins": 2, "both": 2, "triplets": 3}
# A plural between such a word and the end of a phrase does without its number.
_BEFORE = frozenset(_WORDS.findall("and had has have of my own with"))
_MEASURES = frozenset(
    _WORDS.findall(
        "days feet hours inches lbs miles minutes months pounds times weeks years"
    )
)

# One's age, in a persona and as it is said: "i am 24", "turned 24", "24 , and you ?".
_IS_AGED = re.compile(
    r"i am (?:an? |almost |only |about )*([\w -]+?)(?:[ -]years?[ -]old\b(.*)|\W*$)"
)
_SOME = r"\b(\w{1,12}(?:[ -]\w{1,12})?)"  # two words at most: "twenty five"
_AGES = (
    re.compile(rf"^\W*{_SOME}"),
    re.compile(
        rf"(?:\bi am|\bi ?'? ?m|\bwill be|\bturn\w*|\baged?|almost|only)\W+{_SOME}"
    ),
    re.compile(rf"{_SOME}[ -]{{0,3}}(?:years?|yrs?)[ -]{{0,3}}(?:old|of age|young)"),
)
# "years" are of an age, other things that are counted are not.
_NO_AGE = re.compile(
    r"^(?:not|never|no|in|at|on|from)\b"
    r"|\b(?!yes|years|yrs|is|was|as|this)\w+s$"
)


def numbers(text: str) -> set[int]:
    """The values from 2 on of a text's words: 25 of "twenty five", 200 of "200"."""
    return {value for value in _joined(map(_value, _words(text))) if value > 1}


def _joined(values: Iterable[int]) -> list[int]:
    """One value for those that tell one number together."""
    joined = [0]
    for value in values:
        before = joined[-1]
        if before in range(20, 100, 10) and 0 < value < 10:
            joined[-1] += value
        elif before and value in (100, 1000, 1_000_000):
            joined[-1] *= value
        else:
            joined.append(value)
    return joined


def tells_age_alone(sentence: str) -> bool:
    """True of "i am 24." and "i am 24 years old.", not of "i am a 24 year old man."."""
    return _age(sentence)[1]


def without_unsaid(sentence: str, heard: Sequence[str]) -> str:
    """The sentence if all its numbers were heard; else without these where a plural
    that they count stays ("i have four sons." -> "i have sons."); "" where none does,
    and of an age that was not heard as one.
    """
    if not _age(sentence)[0] <= _all(_ages_in, heard):
        return ""
    said = _all(_said_in, heard)
    if numbers(sentence) <= said:
        return sentence
    words, kept = ["", *sentence.split(), ""], []
    for before, word, behind in zip(words, words[1:], words[2:], strict=False):
        if numbers(word) <= said:
            kept.append(word)
        elif before not in _BEFORE or not _is_plural(behind):
            return ""
    return " ".join(kept) if len(kept) < len(words) - 2 else sentence


def _all(told, heard: Sequence[str]) -> frozenset[int]:
    return frozenset().union(*map(told, heard))


@functools.lru_cache(maxsize=2**12)
def _said_in(text: str) -> frozenset[int]:
    """What `numbers` may tell after a text: those in it, 2 after "a couple" and the
    like, 100 and 3 after "a hundred and three".
    """
    words = _words(text)
    values = [max(_value(word), _MEANT.get(word, 0)) for word in words]
    return frozenset(_joined(values))


@functools.lru_cache(maxsize=2**12)
def _ages_in(text: str) -> frozenset[int]:
    """What may be somebody's age in a text: not 30 of "not 30", nor 10 of "in 10th" and
    "10 minutes"."""
    found = (match[1] for told in _AGES for match in told.finditer(text.lower()))
    return _all(_said_in, [some for some in found if not _NO_AGE.search(some)])


def _age(sentence: str) -> tuple[set[int], bool]:
    """The age that a sentence says its owner is of, as `numbers` has it, and whether
    that is all that it says.
    """
    found = _IS_AGED.match(sentence.lower())
    words = found[1].replace("-", " ").split() if found else ()
    if not words or not all(map(numbers, words)):
        return set(), False
    return numbers(found[1]), not (found[2] or "").strip(" .!")


def _is_plural(word: str) -> bool:
    word = word.rstrip(".,!?;")
    ends = word.endswith("s") or word in ("children", "people")
    return ends and word not in _MEASURES


def _words(text: str) -> list[str]:
    return _WORDS.findall(_THOUSANDS.sub("", text.lower()))


def _value(word: str) -> int:
    return int(word) if word.isdecimal() else _VALUES.get(word, 0)
