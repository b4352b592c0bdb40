"""Which traits of a persona their owner has said so far, by words alone."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.heard import of_oneself
from ppg_jax.data.moods import LIKES, Mood, denied_alike, mood_of, parted
from ppg_jax.data.selves import is_oneself
from ppg_jax.data.stems import (
    PEOPLE,
    akin,
    content_stems,
    is_function_word,
    stem,
    stems_of,
    words_of,
)

_END = re.compile(r"(.*[^\s,])\s*,\s+(\w+(?:\s+\w+){0,2})(\s*[.!]?)")
_LISTED = re.compile(r"(.*[^\s,])\s*,?\s+and\s+(\w+(?:\s+\w+){0,3})(\s*[.!]?)")
# A name at a sentence's end, behind what has it: "a cat" of "i have a cat named max."
_NAMED = re.compile(
    r"(.*?\b(\w+))\s+(named|called|name is|names are)\s+([^.!?]+?)(\s*[.!?]*)", re.I
)
_NAMING = frozenset(
    ("named", "called", "call", "name", "names", "meet", "am", "m", "here", "this")
)
_BESIDE = 4  # words
_SENTENCES = re.compile(r"[.!?;]")
_CLAUSES = re.compile(r"[.,!?;]")
# Who does one of these with one thing, or is one's, is of no other thing.
_LIGHT = content_stems("live speak study drive person lover fan allergic")
# Nobody is one of these who has not said so.
_STATUS = content_stems("married divorced single engaged pregnant widowed allergic")
_WED, _SPOUSES = content_stems("married"), content_stems("husband wife spouse fiance")
_USED = content_stems("used")  # "to": of what is over


def is_said(trait: str, heard: Sequence[str]) -> bool:
    """Whether the speaker has said a trait in its own words.

    At least half of the stems of its content words occur in what was heard; of a trait
    of function words alone, of all its words.
    """
    return first_said([trait], heard)[0] < len(heard)


def is_grounded(sentence: str, heard: Sequence[str], share: float = 0.5) -> bool:
    """Whether what a sentence tells rests on what was heard.

    As `is_said`, by that share of the stems, and who loves one thing, or lives in one
    place, need not love another, or live there. Who farms is a farmer: a stem of four
    letters or more stands for the same with an ending. Who is allergic, or married, has
    said so, and who is a dog person is no cat person. Who does not smoke smokes not:
    what was denied speaks for no sentence that denies nothing, nor does what was wished
    for, or is over, speak for what one is, has or does. Nobody is a woman or a father,
    or has a wife, who has not said so, whatever the share: that is no matter for a
    guess. Nor does one have what one asks of: "do you have kids?", live where one was
    born, or be whom one has met: "i met a nurse".
    """
    words, likes = words_of(sentence), LIKES.match(sentence.lower())
    stems, mood = content_stems(" ".join(words)), mood_of(sentence)
    stems = (stems - _USED) or stems
    if Mood.DENIED in mood and not (heard and denied_alike(sentence, heard)):
        return False
    if not likes and Mood.DENIED not in mood:
        heard = of_oneself(words, heard)
    others = ~mood & (Mood.DENIED if likes else ~Mood(0))
    known = frozenset().union(*(parted(others, text)[0] for text in heard))
    if not {stem(word) for word in words if word in PEOPLE} <= known:
        return False
    wed = _WED if known & _SPOUSES else frozenset()
    if not stems & _STATUS <= known | wed or not is_oneself(words, heard):
        return False
    found = {one for one in stems if any(akin(one, other) for other in known)}
    light = content_stems(likes[0]) if likes else _LIGHT
    if found <= light and (likes or found < stems):
        return False
    return len(found) >= share * len(stems) > 0


def is_told_as_over(sentence: str, heard: Sequence[str]) -> bool:
    """Whether half of what a sentence is about was told as over."""
    over = frozenset().union(*(parted(Mood.OVER, text)[1] for text in heard))
    about = content_stems(sentence)
    found = [one for one in about if any(akin(one, other) for other in over)]
    return 2 * len(found) >= len(about) > 0


def without_guessed_end(sentence: str, heard: Sequence[str]) -> str:
    """The sentence without up to three words behind a comma of which none was heard in
    a sentence with something of it before them, or in a clause of nothing else.

    Told "i live in lisbon", a generator writes "i live in lisbon , canada."
    """
    found = _END.fullmatch(sentence)
    if not found:
        return sentence
    end, about = content_stems(found[2]), content_stems(found[1])
    told = [stems_of(part) for text in heard for part in _SENTENCES.split(text)]
    alone = [content_stems(part) for text in heard for part in _CLAUSES.split(text)]
    with_it = any(end & stems and about & stems for stems in told)
    if with_it or any(end >= stems != frozenset() for stems in alone):
        return sentence
    return found[1] + found[3]


def without_guessed_rest(sentence: str, heard: Sequence[str]) -> str:
    """The sentence without up to four words behind its last "and" of which none was
    heard: told of a dog, a generator writes "i have a dog and a cat."
    """
    found = _LISTED.fullmatch(sentence)
    known = frozenset().union(*map(stems_of, heard))
    if found and not any(akin(a, b) for a in content_stems(found[2]) for b in known):
        return found[1] + found[3]
    return sentence


def without_guessed_name(sentence: str, heard: Sequence[str]) -> str:
    """The sentence without a name that was not heard as one.

    Told of spiders and of a cat, a generator writes "i have a cat named spider", or
    "named cat". A name stands near "named", "name" and the like, or near what has it:
    "my cat max".
    """
    found = _NAMED.fullmatch(sentence)
    if not found:
        return sentence
    before, owner, naming, name, end = found.groups()
    names = [word for word in words_of(name) if not is_function_word(word)]
    kind = stem(owner.lower())
    other = [word for word in names if stem(word) != kind]  # not "a dog named dog"
    signs = {stem(word) for word in (*_NAMING, owner.lower()) if word != "my"}
    if not names or any(
        _is_beside(word, signs, text) for word in other for text in heard
    ):
        return sentence
    return before + end if naming in ("named", "called") else ""


def _is_beside(name: str, signs: set[str], text: str) -> bool:
    """Whether a word stands near one of these stems, in one sentence of a text."""
    for sentence in _SENTENCES.split(text):
        words = words_of(sentence)
        for n in [n for n, word in enumerate(words) if word == name]:
            near = words[max(n - _BESIDE, 0) : n + _BESIDE]
            if not signs.isdisjoint(map(stem, near)):
                return True
    return False


def is_ones_own(sentence: str, instance: Instance, share: float = 0.5) -> bool:
    """Whether a sentence about the partner tells of the speaker instead.

    All that it is about is in the speaker's persona or was said by the speaker, and the
    partner has said less than that share of it.
    """
    told = (*instance.self_persona, *instance.context[-2::-2])
    own, theirs = (
        frozenset().union(*map(stems_of, texts))
        for texts in (told, instance.context[::-2])
    )
    about = content_stems(sentence)
    return bool(about) and about <= own and len(about & theirs) < share * len(about)


def first_said(persona: Iterable[str], heard: Sequence[str]) -> list[int]:
    """For each trait the utterance of the speaker by which it `is_said`.

    heard: in the order in which it was said; its length stands for never.
    """
    asked = [content_stems(trait) for trait in persona]
    found, known = [len(heard)] * len(asked), set()
    for turn, utterance in enumerate(heard):
        known |= stems_of(utterance)
        for n, stems in enumerate(asked):
            if found[n] > turn and 2 * len(stems & known) >= len(stems) > 0:
                found[n] = turn
    return found


def as_given(instance: Instance) -> Instance:
    return instance


def said_first(instance: Instance) -> Instance:
    """The instance, its partner's traits as they were said, then the others as given.

    A generator that learns personas in this order begins with what it was told.
    """
    heard = instance.context[::-2][::-1]  # the partner spoke last
    turns = first_said(instance.partner_persona, heard)
    order = sorted(range(len(turns)), key=turns.__getitem__)
    ordered = tuple(instance.partner_persona[n] for n in order)
    return dataclasses.replace(instance, partner_persona=ordered)


# In which order a persona generator learns the sentences of a persona.
ORDERS = {"as_given": as_given, "said_first": said_first}
