"""Which traits of a persona their owner has said so far, by words alone."""

import dataclasses
import functools
import re
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


def is_said(trait: str, heard: Sequence[str]) -> bool:
    """Whether the speaker has said a trait in its own words.

    At least half of the stems of its content words occur in what was heard; of a trait
    of function words alone, of all its words.
    """
    return first_said([trait], heard)[0] < len(heard)


def is_grounded(sentence: str, heard: Sequence[str], share: float = 0.5) -> bool:
    """Whether what a sentence tells rests on what was heard.

    As `is_said`, by that share of the stems; a stem that begins another, of four
    letters or more, stands for it: who farms is a farmer.
    """
    stems = content_stems(sentence)
    known = frozenset().union(*map(_stems, heard))
    found = sum(any(_akin(stem, other) for other in known) for stem in stems)
    return found >= share * len(stems) > 0


def _akin(a: str, b: str) -> bool:
    return a == b or (min(len(a), len(b)) >= 4 and (a.startswith(b) or b.startswith(a)))


def is_ones_own(sentence: str, instance: Instance) -> bool:
    """Whether a sentence about the partner tells of the speaker instead.

    All that it is about is in the speaker's persona or was said by the speaker, and the
    partner has not said it (`is_said`).
    """
    told = (*instance.self_persona, *instance.context[-2::-2])
    own = frozenset().union(*map(_stems, told))
    about = content_stems(sentence)
    heard = instance.context[::-2]
    return bool(about) and about <= own and not is_said(sentence, heard)


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


# nltk has it, too, and takes more than a second to import.
_stem = functools.cache(snowballstemmer.stemmer("porter").stemWord)
