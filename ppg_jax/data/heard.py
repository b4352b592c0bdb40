"""What a partner has said so far, in the order in which it was said, as it was meant.

Without what was stated of the one whom it was said to, and what was put right as that:
"i have three cats . wait , i meant two cats".
"""

import re
from collections.abc import Sequence

from ppg_jax.data.numbers import numbers
from ppg_jax.data.stems import is_function_word, stem

# What is said or asked of "you" before it is so of the speaker.
_SO_AM_I = (
    r"\b(?:me too|so (?:am|do|have) i"
    r"|(?:same(?: here)?|(?:i|we) (?:am|do|have)(?: too)?)\s*(?:[.,!?;]|$))"
)
# What is said of "you", up to the next clause of one's own; questions are not.
_OF_YOU = re.compile(
    r"(?<!\bdo )(?<!\bdid )(?<!\bwould )(?<!\bcould )\b(?:you|your \w+) "
    r"(?:are|is|must|ha(?:ve|s)|said|(?:sound|keep|get|live|work)s?)\b"
    rf"(?![^.!?;]*(?:[.!?;]\s*)?{_SO_AM_I})"
    r"[^.!?;]*?(?=[.!?;]|$|,\s*(?:\w+ )?(?:i|my|we|our)\b)",
    re.IGNORECASE,
)
_SOME = r"(?:one|two|three|four|five|\d)"
# What is asked of "you" as what one is or has; who asks what one likes, likes it.
_ASKED = re.compile(
    r"(?:^|(?<=[.,!?;]))[^.,!?;]*\b"
    r"(?:(?:are you (?:an?|married|single|from|in)|have you (?:ever )?been"
    r"|(?:is|are) your|do you have (?:an?|any))\b[^.!?;]*"
    r"|(?:how (?:many|old|long have)|when) [^.!?;]*\byou\b[^.!?;]*"
    rf"|do you have \w+\s*)\?(?!\W*(?:mine\b|(?:i|we) have {_SOME}|{_SO_AM_I}))",
    re.IGNORECASE,
)
# Where one was born or has been one does not live, unless one is "still here".
_AWAY = re.compile(
    r"(?:(?!\b(?:and|but|so)\b)[^.,!?;])*\b(?:been to|went to|travel\w*|visit\w*|trip"
    r"|flight|vacation|honeymoon|born|grew up|raised|originally)\b"
    r"(?:(?!\b(?:and|but|so)\b)[^.,!?;])*",
    re.IGNORECASE,
)
_LEFT = re.compile(
    r"\b((?:mov(?:ed?|ing)|relocated|came)(?: \w+){0,3}) from (?:(?!\bto\b)[^.,!?;])*",
    re.IGNORECASE,
)
# Of one's parents: "the youngest of six kids".
_SIBLINGS = re.compile(r"\b(?:\w+est|middle|one|born|out) of \w+ (?:kids|children)\b")
_STILL = re.compile(r"\b(?:still|all my life|never left)\b", re.IGNORECASE)
# What puts right what was said before it.
_OOPS = r"(?:(?:oh|wait|no|sorry|oops|well|actually|lol|haha)\b)"
_MEANT = re.compile(
    rf"(?:^|(?<=[.,!?;])|(?=\b{_OOPS}))\s*(?:{_OOPS}\W+){{0,4}}"
    r"i mean(?:t)?(?: to (?:say|type|write))?\s+([^.,!?;]+)",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\w+")
_MARKS = " .,!?;"
# "i mean wow" puts nothing right, nor does "i mean honestly".
_FILLER = re.compile(r"wow|yeah|yes|sure|look|hello|hey|duh|come|\w+ly", re.IGNORECASE)
_REST = re.compile(r"\s+(?:not|lol|haha|instead|sorry)\b.*", re.DOTALL | re.IGNORECASE)
_ARTICLES = frozenset(("a", "an", "the", "my", "in", "at", "one"))
_MOST = 4  # words that are put right at once


def as_meant(texts: Sequence[str]) -> list[str]:
    """Utterances of one speaker, what was put right in the place of what was meant, and
    without what they state of "you" (`without_you`)."""
    meant: list[str] = []
    for text in texts:
        found = _MEANT.search(text)
        words = _put_right(found[1]) if found else []
        before = text[: found.start()] if found else ""
        if words and _WORDS.search(before):
            rest = text[found.end() :].lstrip(", ")
            text = f"{_corrected(before, words)} {rest}"
        elif words and meant and _WORDS.search(meant[-1]):
            meant[-1] = _corrected(meant[-1], words)
            text = text[found.end() :]
        meant.append(text)
    return [without_you(text) for text in meant]


def _put_right(said: str) -> list[str]:
    """The words behind "i meant": [] unless a few, and about something."""
    words = _WORDS.findall(_REST.sub("", f" {said}"))
    light = [word for word in words if is_function_word(word.lower())]
    if not len(light) < len(words) <= _MOST or any(map(_FILLER.fullmatch, words)):
        return []
    return words if _ARTICLES.issuperset(light) else []


def _corrected(text: str, words: Sequence[str]) -> str:
    """The text with these words for those in its last sentence that they put right:
    around a word that both have, or a number for a number, or the last ones."""
    text = text.rstrip(_MARKS)
    border = max(map(text.rfind, ".!?;"))
    old = list(_WORDS.finditer(text, border + 1))
    start, end = _place([one[0].lower() for one in old], [w.lower() for w in words])
    span = old[start].start(), old[end - 1].end()
    return text[: span[0]] + " ".join(words) + text[span[1] :]


def _place(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """From which word to which one the new ones stand for the old ones."""
    alike = [
        (i, j)
        for i, a in enumerate(old)
        for j, b in enumerate(new)
        if stem(a) == stem(b) and not is_function_word(a)
    ]
    counts = [n for n, word in enumerate(old) if numbers(word)]
    if alike:
        i, j = alike[-1]
        start, end = i - j, i - j + len(new)
    elif len(new) == 1 and numbers(new[0]) and counts:
        start, end = counts[-1], counts[-1] + 1
    else:
        start, end = len(old) - len(new), len(old)
    return max(start, 0), min(end, len(old))


def of_oneself(words: Sequence[str], heard: Sequence[str]) -> list[str]:
    """What was heard without what makes no sentence of these words true: that one asks
    of, has been to, or moved away from, and how many kids one's parents have."""
    heard = [_ASKED.sub("", text) for text in heard]
    if "have" in words:
        heard = [_SIBLINGS.sub("", text) for text in heard]
    if "live" in words:
        heard = [text if _STILL.search(text) else _settled(text) for text in heard]
    return heard


def _settled(text: str) -> str:
    return _LEFT.sub(r"\1 ", _AWAY.sub("", text))


def without_you(text: str) -> str:
    """An utterance without what it states of whom it is said to: "so you are a sailor,
    right?" makes no sailor of the speaker, nor does "you must love boats".
    """
    return _OF_YOU.sub("", text)
