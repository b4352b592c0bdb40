"""Which traits of a persona their owner has said so far, by words alone."""

import dataclasses
import functools
import re
import threading
from collections.abc import Iterable, Sequence

import snowballstemmer

from ppg_jax.data.dialogue import Instance

_WORDS = re.compile(r"\w+")
# A sentence has them whatever it is about. Verbs like "love" and "work" are none.
_FUNCTION_WORDS = frozenset(
    _WORDS.findall("""
    a about after again all also always am an and any are as at be because been
    before being but by can could d did do does doing don down each even ever every
    few for from get got had has have having he her here hers him his how i if in
    into is it its just ll lot lots m many me more most much my myself no not now of
    off often on one only or other our out over own quite re really s same she so
    some such t than that the their them then there these they this those through to
    too until up us ve very was we were what when where which while who whom why
    will with would you your yours
    """)
)


_DENIALS = frozenset(("not", "never", "no", "cannot", "t"))  # as "don't" is cut
_DENIED = 3  # words that a denial reaches over: "not have any kids"
_PIECES = re.compile(r"\w+|[.,!?;]")
_ENDINGS = frozenset(("e", "r", "er", "or", "an", "ian", "ist", "man", "th"))
# What says whether people are women or men: in a line, what stands for the same.
_PEOPLE = {
    word: words.split()[0]
    for words in (
        "woman women female lady ladies girl girls",
        "man men male guy guys boy boys gentleman",
        "mother mothers mom moms mommy mum mama",
        "father fathers dad dads daddy papa",
        "wife wives",
        "husband husbands hubby",
        "daughter daughters",
        "son sons",
        "sister sisters",
        "brother brothers",
        "girlfriend girlfriends",
        "boyfriend boyfriends",
        "grandmother grandma granny",
        "grandfather grandpa",
        "aunt aunts",
        "uncle uncles",
        "widow",
        "widower",
    )
    for word in words.split()
}


def is_said(trait: str, heard: Sequence[str]) -> bool:
    """Whether the speaker has said a trait in its own words.

    At least half of the stems of its content words occur in what was heard; of a trait
    of function words alone, of all its words.
    """
    return first_said([trait], heard)[0] < len(heard)


def is_grounded(sentence: str, heard: Sequence[str], share: float = 0.5) -> bool:
    """Whether what a sentence tells rests on what was heard.

    As `is_said`, by that share of the stems. Who farms is a farmer: a stem of four
    letters or more stands for the same with an ending. Who does not smoke smokes not:
    what was denied speaks for no sentence that denies nothing. Nobody is a woman or a
    father, or has a wife, who has not said so: whether women or men are told of is not
    to be guessed, whatever the share.
    """
    if not _people(sentence) <= frozenset().union(*map(_people, heard)):
        return False
    stems = content_stems(sentence)
    denies = not _DENIALS.isdisjoint(_WORDS.findall(sentence.lower()))
    known = frozenset().union(*map(_stems if denies else _affirmed, heard))
    found = sum(any(_akin(stem, other) for other in known) for stem in stems)
    return found >= share * len(stems) > 0


@functools.lru_cache(maxsize=2**15)
def _people(text: str) -> frozenset[str]:
    words = _WORDS.findall(text.lower())
    return frozenset(_PEOPLE[word] for word in words if word in _PEOPLE)


def _akin(a: str, b: str) -> bool:
    short, long = sorted((a, b), key=len)
    ending = long[len(short) :]
    return a == b or (len(short) >= 4 and long.startswith(short) and ending in _ENDINGS)


def is_ones_own(sentence: str, instance: Instance, share: float = 0.5) -> bool:
    """Whether a sentence about the partner tells of the speaker instead.

    All that it is about is in the speaker's persona or was said by the speaker, and the
    partner has said less than that share of it.
    """
    told = (*instance.self_persona, *instance.context[-2::-2])
    own, theirs = (
        frozenset().union(*map(_stems, texts))
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
        known |= _stems(utterance)
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


def content_stems(text: str) -> frozenset[str]:
    """Porter stems of the words that a sentence is about; of all, if there are none."""
    words = _WORDS.findall(text.lower())
    return frozenset(
        _stem(word) for word in words if word not in _FUNCTION_WORDS
    ) or frozenset(map(_stem, words))


@functools.lru_cache(maxsize=2**15)
def _stems(text: str) -> frozenset[str]:
    return frozenset(map(_stem, _WORDS.findall(text.lower())))


@functools.lru_cache(maxsize=2**15)
def _affirmed(text: str) -> frozenset[str]:
    """The stems of what is not among the three words behind a denial in its clause."""
    stems, since = set(), _DENIED
    for word in _PIECES.findall(text.lower()):
        if not word[0].isalnum():
            since = _DENIED
        elif word in _DENIALS:
            since = 0
        else:
            since += 1
            if since > _DENIED:
                stems.add(_stem(word))
    return frozenset(stems)


# nltk has it, too, and takes more than a second to import.
_STEMMER = snowballstemmer.stemmer("porter")
_LOCK = threading.Lock()  # it keeps the word that it is at in itself


@functools.lru_cache(maxsize=2**16)
def _stem(word: str) -> str:
    with _LOCK:
        return _STEMMER.stemWord(word)
