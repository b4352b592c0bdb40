"""Numbers that a sentence tells, and a sentence without those that nobody said.

A generator that has heard "sons" writes "i have four sons": how many is its guess.
Values from 2 on, for "one" and "first" say other things as well.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Sequence

from ppg_jax.data.stems import akin, is_function_word, stem

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
        "bucks days dollars feet hours inches lbs miles minutes months pounds times "
        "weeks years"
    )
)
_REACH = 3  # words behind a number in which it counts something
_ONE = frozenset(("a", "an", "one"))
_YES = frozenset(_WORDS.findall("yes yeah yep sure just only them"))
_IS = frozenset(_WORDS.findall("is am s m was turned turns age aged at"))  # "she is 6"
_CLAUSES = re.compile(r"[.,!?;]")
# Who has "two boys" has two sons, and two kids.
_COUNTED = {
    stem(word): frozenset(map(stem, _WORDS.findall(words)))
    for words in (
        "boy son",
        "girl daughter",
        "sibling brother sister",
        "kid child children boy son girl daughter twin triplet",
    )
    for word in (words.split()[:3] if "kid" in words else words.split()[:2])
}

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
# Of a child: "i have a 3 year old", "my 3 year old is loud".
_TODDLER = re.compile(
    r"\b(?:have|has|got|with|my|our) (?:an? )?\w+[ -]years?[ -]old"
    r"(?=\s*(?:[.,!?;]|$|(?:and|is|was|at|in|who|named|now|so|but|has|loves?)\b))"
)
# Of oneself, and now: not "when i turned 18".
_OWN = re.compile(
    r"(?<!when )(?<!before )(?<!until )(?<!after )(?<!if )"
    r"(?:\bi am|\bi ?'? ?m|\bi just turned|(?:^|[,.!?] ?|actually )just turned)"
    rf"\W+(?:now |only |just )?{_SOME}"
)
_NOT_NOW = re.compile(r"\b(?:feet|foot|ft|percent)$")
# "years" are of an age, other things that are counted are not.
_NO_AGE = re.compile(
    r"^(?:not|never|no|in|at|on|from)\b"
    r"|\b(?!yes|years|yrs|is|was|as|this)\w+s$"
)


def numbers(text: str) -> set[int]:
    """The values from 2 on of a text's words: 25 of "twenty five", 200 of "200"."""
    return {value for _, value in _joined(map(_value, _words(text))) if value > 1}


def _joined(values: Iterable[int]) -> list[tuple[int, int]]:
    """One value for those that tell one number together, behind the place of the last
    one; 0 for what is no number."""
    joined = [(-1, 0)]
    for n, value in enumerate(values):
        before = joined[-1][1]
        if before in range(20, 100, 10) and 0 < value < 10:
            joined[-1] = n, before + value
        elif before and value in (100, 1000, 1_000_000):
            joined[-1] = n, before * value
        else:
            joined.append((n, value))
    return joined[1:]


def in_digits(words: Sequence[str]) -> list[str]:
    """Words in lower case, each number as one: "25" for "twenty five"."""
    values = _joined(_value(word) if len(word) < 19 else 0 for word in words)
    return [str(value) if value else words[n] for n, value in values]


def tells_age_alone(sentence: str) -> bool:
    """True of "i am 24." and "i am 24 years old.", not of "i am a 24 year old man."."""
    return _age(sentence)[1]


def without_unsaid(sentence: str, heard: Sequence[str]) -> str:
    """The sentence if all its numbers were heard; else without these where a plural
    that they count stays ("i have four sons." -> "i have sons."); "" where none does,
    and of an age that was not heard as one, or before a newer one.

    heard: in the order in which it was said.
    A number of things has to be heard of these: who has "two boys and four dogs" has
    not four boys, and is told of no other number of them.
    """
    age = _age(sentence)[0]
    if not age <= _all(_ages_in, heard) or age & _outgrown(heard):
        return ""
    said, words = _all(_said_in, heard), ["", *sentence.split(), ""]
    guessed, known = _guessed(sentence, heard, said)
    if known:
        return ""
    if numbers(sentence) <= said - guessed:
        return sentence
    kept = []
    for before, word, behind in zip(words, words[1:], words[2:], strict=False):
        if numbers(word) <= said - guessed:
            kept.append(word)
        elif before not in _BEFORE or not _is_plural(behind):
            return ""
    return " ".join(kept) if len(kept) < len(words) - 2 else sentence


def _guessed(
    sentence: str, heard: Sequence[str], among: frozenset[int]
) -> tuple[frozenset[int], bool]:
    """The values among those heard that the sentence tells of things of which they were
    not, and whether another one was heard of some of these."""
    pairs = [pair for text in heard for pair in _counts(text)]
    guessed, known = set(), False
    for value, thing in _told_counts(sentence):
        said = {n for n, words in pairs if any(_is_of(thing, word) for word in words)}
        bare = {n for n, words in pairs if not words}
        if value in among - said and (said or value not in bare):
            guessed.add(value)
            known = known or bool(said)
    return frozenset(guessed), known


def _told_counts(sentence: str) -> list[tuple[int, str]]:
    """(value, stem) of the "two dogs" and "two old dogs" of a sentence."""
    words, found = _words(sentence), []
    for n, value in _joined(map(_value, words)):
        for word in words[n + 1 : n + 1 + _REACH] if value > 1 else ():
            if is_function_word(word) or _value(word) or word in _MEASURES:
                break
            if _is_plural(word):
                found.append((value, stem(word)))
                break
    return found


@functools.lru_cache(maxsize=2**12)
def _counts(text: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """The numbers of a text, each with the stems of what it may count, none of "yes ,
    two" and "i have two of them"; 1 for "a dog"."""
    found = []
    for clause in _CLAUSES.split(_THOUSANDS.sub("", text.lower())):
        words = _words(clause)
        values = [max(_value(word), _MEANT.get(word, 0)) for word in words]
        for n, (word, behind) in enumerate(itertools.pairwise(words)):
            if word == "twin" and not _is_plural(behind):  # "a twin sister"
                values[n] = 0
        alone = not any(_is_thing(word) for word in words)
        begins = next((n for n, word in enumerate(words) if word in _IS), len(words))
        for n, value in _joined(values):
            if value > 1 and alone and n < begins:
                found.append((value, ()))
            elif (value > 1 or words[n] in _ONE) and (counted := _counted(words, n)):
                found.append((value or 1, counted))
    return tuple(found)


def _counted(words: Sequence[str], n: int) -> tuple[str, ...]:
    """The stems of what a number may count: the "old dogs" of "two old dogs", the
    "twins" that are two themselves."""
    counted = [words[n]] if words[n] in _MEANT else []
    for word in words[n + 1 : n + 1 + _REACH]:
        if word in _ONE or _value(word):
            break
        counted.append(word)
    return tuple(map(stem, counted))


def _is_thing(word: str) -> bool:
    none = _value(word) or word in _MEANT or word in _YES
    return not none and not is_function_word(word)


def _is_of(thing: str, word: str) -> bool:
    return akin(thing, word) or word in _COUNTED.get(thing, ())


def _all(told, heard: Sequence[str]) -> frozenset[int]:
    return frozenset().union(*map(told, heard))


@functools.lru_cache(maxsize=2**12)
def _said_in(text: str) -> frozenset[int]:
    """What `numbers` may tell after a text: those in it, 2 after "a couple" and the
    like, 100 and 3 after "a hundred and three".
    """
    words = _words(text)
    values = [max(_value(word), _MEANT.get(word, 0)) for word in words]
    return frozenset(value for _, value in _joined(values))


@functools.lru_cache(maxsize=2**12)
def _ages_in(text: str) -> frozenset[int]:
    """What may be somebody's age in a text: not 30 of "not 30", nor 10 of "in 10th" and
    "10 minutes"."""
    text = _TODDLER.sub("", text.lower())
    found = (match[1] for told in _AGES for match in told.finditer(text))
    return _all(_said_in, [some for some in found if not _NO_AGE.search(some)])


def _outgrown(heard: Sequence[str]) -> frozenset[int]:
    """The ages that the speaker told before the last one: 34 where it is 35 now."""
    found = [match[1] for text in heard for match in _OWN.finditer(text.lower())]
    told = [
        _said_in(some)
        for some in found
        if not (_NO_AGE.search(some) or _NOT_NOW.search(some))
    ]
    ages = [values - {0} for values in told if values - {0}]
    return frozenset().union(*ages) - ages[-1] if ages else frozenset()


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
