"""The sentences of a persona, and which of them say the same."""

import re
import unicodedata
from collections.abc import Sequence

from ppg_jax.data.kin import KIN
from ppg_jax.data.moods import LIKES, mood_of
from ppg_jax.data.numbers import in_digits
from ppg_jax.data.said import is_grounded
from ppg_jax.data.stems import PEOPLE, content_stems, words_of

# They tell little beside what is liked, where one lives, who has a name, and what used
# to be: "i love to knit" and "i enjoy knitting" are one trait, a dog and a cat named
# Max are two.
_LIGHT = content_stems("like love enjoy prefer favorite live name used")
_CHILD = frozenset(("child", "children", "kid", "kids"))
_WORDS = re.compile(r"\w+")
# Not behind "u." and "ph. d.", "st." and "dr.", but behind "so do i."
_BORDER = re.compile(
    r"(?<=[.!?])(?<!\b[a-hj-z]\.)(?<!\b(?:dr|mr|ms|st|ph)\.)(?<!\bmrs\.)\s+|\n",
    re.IGNORECASE,
)
_LONG = re.compile(r"(?:\W*\b\w+\b){4}")  # four words or more
_TWICE = re.compile(r"\b([\w']+(?:\s+[\w']+)+)(?:\s*,\s*\1\b)+(?=\s*(?:[,.!?;]|$))")

# What a reply agrees to, and what it states as the speaker's.
_TOO = frozenset(_WORDS.findall("too also same well either both so"))
_STATES = re.compile(r"(?:(?:and|but|oh|well|yes|yeah|cool|wow) )*((?:i|we|my) .+)")
_HAS = re.compile(r"(?:i|we) (?:have|own|drive|am an?) ")


def sentences(text: str) -> tuple[str, ...]:
    """A generated persona as the sentences that it consists of."""
    return tuple(s.strip() for s in _BORDER.split(text) if s.strip())


def folded(sentence: str) -> str:
    """What two sentences have in common that say the same: "I sing !" and "i sing."."""
    kept = [c for c in sentence.casefold() if unicodedata.category(c)[0] not in "PZC"]
    return "".join(kept)


def once(said: Sequence[str], ended: bool = True) -> list[int]:
    """The indices of the sentences that stay: the first of those that say the same.

    They do if they are `folded` to one text, or have nearly all that they are about in
    common: "i like to knit" says nothing beside "i like knitting". What says nothing, a
    full stop alone, goes beside those that do. Where the text was cut (not ended), so
    does a last sentence without its end, if another one stays.
    """
    if not said:
        return []
    texts = [folded(sentence) for sentence in said]
    about = [content_stems(sentence) for sentence in said]
    seen = {""} if any(texts) else set()
    kept: list[int] = []
    for n, text in enumerate(texts):
        if text not in seen and not any(_alike(about[n], about[k]) for k in kept):
            seen.add(text)
            kept.append(n)
    cut = not ended and not said[-1].endswith((".", "!", "?"))
    if cut and len(kept) > 1 and kept[-1] == len(said) - 1:
        kept.pop()
    return kept


def _alike(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether three of four stems of the two are in both; nothing is like nothing."""
    return len(a & b) >= 0.75 * len(a | b) > 0


def says_again(sentence: str, other: str) -> bool:
    """Whether one of the two tells little beside the other: two thirds of what the
    shorter is about are in both, of one person ("my mom ..."), both as it is, as it is
    not, as it is wished for or as it was; or both are the same letters ("fire
    fighter"). Moms are mothers, kids are children, and three is 3.
    """
    a, b = _core(sentence), _core(other)
    if _letters(sentence) == _letters(other) != "":
        return True
    if _kin(sentence) != _kin(other) or mood_of(sentence) != mood_of(other):
        return False
    return 3 * len(a & b) >= 2 * min(len(a), len(b)) > 0


def says_more(sentence: str, other: str) -> bool:
    """Whether the sentence is about all that the other is about, and about more."""
    return _core(sentence) > _core(other)


def _letters(sentence: str) -> str:
    return "".join(_WORDS.findall(sentence.lower()))


def _kin(sentence: str) -> str:
    """Whom of the speaker's people it begins with; "" for the speaker."""
    first, *others = [*_WORDS.findall(sentence.lower())[:3], ""]
    people = [word for word in others if first == "my" and word in KIN]
    return _one_word(people[0]) if people else ""


def _core(sentence: str) -> frozenset[str]:
    words = map(_one_word, in_digits(words_of(sentence)))
    stems = content_stems(" ".join(words))
    return (stems - _LIGHT) or stems


def _one_word(word: str) -> str:
    """One for those that stand for the same people."""
    return "child" if word in _CHILD else PEOPLE.get(word, word)


def says_nothing_new(text: str, before: Sequence[str]) -> bool:
    """Whether all sentences of a text were said before, in the same words, and it has
    three words or more: "hello !" may be said twice."""
    known = {folded(s) for u in before for s in sentences(u)}
    said = sentences(text)
    return len(_WORDS.findall(text)) > 2 and all(folded(s) in known for s in said)


def takes_over(text: str, heard: str, own: Sequence[str]) -> bool:
    """Whether a reply states of the speaker what only the other one has just said: "i
    have two sons" to who has two sons. Not where it agrees ("too"), nor of likings, nor
    where the other one has none ("i have no sons").

    own: the speaker's persona and earlier utterances.
    """
    stated = " ".join(map(_stated, sentences(heard.lower())))
    known = frozenset().union(*map(_core, own))
    return any(
        _is_taken(clause, stated, known)
        for sentence in sentences(text.lower())
        if _TOO.isdisjoint(_WORDS.findall(sentence)) and not sentence.endswith("?")
        for clause in sentence.split(",")
    )


def _stated(sentence: str) -> str:
    """A sentence, or of a question what was stated before it: "i sing , and you ?"."""
    if not sentence.endswith("?"):
        return sentence
    before = sentence.split(",")[:-1]
    return ",".join(clause for clause in before if _STATES.match(clause.strip()))


def _is_taken(clause: str, heard: str, known: frozenset[str]) -> bool:
    """heard: what the other one stated; known: what the speaker's own is about."""
    states = _STATES.match(" ".join(_WORDS.findall(clause)))
    if not states or LIKES.match(states[1]):
        return False
    about, theirs = _core(states[1]), _core(heard)
    enough = 1 if _HAS.match(states[1]) else 2
    taken = len(about) >= enough and about <= theirs and not about <= known
    return taken and is_grounded(states[1], [heard])


def text_once(text: str, before: Sequence[str] = ()) -> str:
    """A text, each of its sentences once; one that repeats nothing stays as it is.

    Only what says the same, word by word, and asks where the other asks: "do you have
    kids ?" goes on from "i have kids .". A clause that is said again behind a comma
    goes, too: "i love tea , i love tea .", and a sentence of four words or more that
    was such a clause. before: what the same speaker said earlier; a sentence of four
    words or more that is in it goes, if another one stays.
    """
    text = _TWICE.sub(r"\1", text)
    said = sentences(text)
    texts = list(map(_same, said))
    clauses = [[_same(c) for c in _clauses(sentence)] for sentence in said]
    told = [s for u in before for s in sentences(u) if _LONG.match(s)]
    earlier = set(map(_same, told))
    kept = [n for n, one in enumerate(texts) if one not in sum(clauses[:n], texts[:n])]
    kept = [n for n in kept if texts[n][0]] or kept
    kept = [n for n in kept if texts[n] not in earlier] or kept
    return text if len(kept) == len(said) else " ".join(said[n] for n in kept)


def _same(sentence: str) -> tuple[str, bool]:
    """What two sentences have in common that say, or ask, the same."""
    return folded(sentence), sentence.endswith("?")


def _clauses(sentence: str) -> list[str]:
    """Its parts of four words or more between commas."""
    return [part for part in sentence.split(",") if _LONG.match(part)]
