"""Which traits of a persona their owner has said so far, by words alone."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from ppg_jax.data.dialogue import Instance
from ppg_jax.data.heard import SO_AM_I
from ppg_jax.data.moods import LIKES, Mood, denied_alike, mood_of, parted
from ppg_jax.data.stems import (
    PEOPLE,
    akin,
    content_stems,
    is_function_word,
    stem,
    stems_of,
    words_of,
)
from ppg_jax.data.tense import MODALS, PASTS

_WORDS = re.compile(r"\w+")
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
_SOME = r"(?:one|two|three|four|five|\d)"
# What is asked of "you" as what one is or has; who asks what one likes, likes it.
_ASKED = re.compile(
    r"(?:^|(?<=[.,!?;]))[^.,!?;]*\b"
    r"(?:(?:are you (?:an?|married|single|from|in)|have you (?:ever )?been"
    r"|(?:is|are) your|do you have (?:an?|any))\b[^.!?;]*"
    r"|(?:how (?:many|old|long have)|when) [^.!?;]*\byou\b[^.!?;]*"
    rf"|do you have \w+\s*)\?(?!\W*(?:mine\b|(?:i|we) have {_SOME}|{SO_AM_I}))",
    re.IGNORECASE,
)
# Where one was born or has been one does not live, unless one is "still here".
_AWAY = re.compile(
    r"(?:(?!\b(?:and|but|so)\b)[^.,!?;])*\b(?:been to|went to|visit\w*|trip|flight"
    r"|vacation|honeymoon|born|grew up|raised|originally)\b"
    r"(?:(?!\b(?:and|but|so)\b)[^.,!?;])*",
    re.IGNORECASE,
)
_STILL = re.compile(r"\b(?:still|all my life|never left)\b", re.IGNORECASE)
_OWNERS = frozenset(("my", "your", "his", "her", "their", "our"))
# Behind these stands another one, or a thing: "i met a nurse", "in a band".
_MET = frozenset(
    _WORDS.findall("""
    met meet meeting saw see seeing hire hired know knew date dating dated call called
    visit visited need have has had got marry married love hate find found ask asked
    with to by from for near beside like about than in at
    """)
)
_TELLS = (PASTS | MODALS) | frozenset(
    _WORDS.findall("""
    says thinks keeps wants makes who named called online
    yesterday today tonight last this next
    """)
)
_THINGS = frozenset(_WORDS.findall("shift shifts job jobs hours career"))  # nobody
_ARTICLES = frozenset(_WORDS.findall("a an the this another some"))
_OWN = frozenset(("i", "am", "as", "being"))
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
    letters or more stands for the same with an ending. Who does not smoke smokes not:
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
        heard = [_ASKED.sub("", text) for text in heard]
    if "live" in words:
        heard = [text if _STILL.search(text) else _AWAY.sub("", text) for text in heard]
    others = ~mood & (Mood.DENIED if likes else ~Mood(0))
    known = frozenset().union(*(parted(others, text)[0] for text in heard))
    if not {stem(word) for word in words if word in PEOPLE} <= known:
        return False
    selves = frozenset(PEOPLE.values()).intersection(_what_one_is(words))
    if not selves <= frozenset().union(*map(_of_nobody_else, heard)):
        return False
    if _is_another(words, heard):
        return False
    found = {one for one in stems if any(akin(one, other) for other in known)}
    light = content_stems(likes[0] if likes else "live")
    if found <= light and (likes or found < stems):
        return False
    return len(found) >= share * len(stems) > 0


def is_told_as_over(sentence: str, heard: Sequence[str]) -> bool:
    """Whether half of what a sentence is about was told as over."""
    over = frozenset().union(*(parted(Mood.OVER, text)[1] for text in heard))
    about = content_stems(sentence)
    found = [one for one in about if any(akin(one, other) for other in over)]
    return 2 * len(found) >= len(about) > 0


def _what_one_is(words: Sequence[str]) -> Sequence[str]:
    """Of "i am a father of two" what stands before "of"; else nothing."""
    if words[:2] != ["i", "am"]:
        return ()
    ends = [words.index(w) for w in ("of", "to", "with", "than", "my") if w in words]
    return words[2 : min(ends, default=len(words))]


def _is_another(words: Sequence[str], heard: Sequence[str]) -> bool:
    """Whether who one is said to be ("i am a nurse") was heard as somebody else alone:
    "i met a nurse", "my nurse told me"."""
    one = _what_one_is(words)
    if not _ARTICLES.issuperset(one[:1]) or not one[1:]:
        return False
    name = next((a for a, b in pairwise(one[1:]) if is_function_word(b)), one[-1])
    if name in _THINGS:
        return True
    who = stem(name)
    clauses = [words_of(c) for text in heard for c in _CLAUSES.split(text.lower())]
    met = [
        _is_met(clause, n)
        for clause in clauses
        for n, word in enumerate(clause)
        if stem(word) == who
    ]
    return bool(met) and all(met)


def _is_met(words: Sequence[str], n: int) -> bool:
    """Whether a word of a clause is whom the speaker met or has: "my old nurse"."""
    behind = words[n + 1 : n + 2]
    if not (all(map(is_function_word, behind)) or _TELLS.issuperset(behind)):
        return False  # "my nurse training"
    before = list(words[max(n - 5, 0) : n])
    while before and _describes(before[-1]):
        before.pop()
    if not _OWNERS.isdisjoint(before[-1:]):
        return True
    if before and (before[-1] in _ARTICLES or before[-1].isdecimal()):
        before.pop()
    return not _MET.isdisjoint(before[-1:])


def _describes(word: str) -> bool:
    """Whether it may stand between "a" and who is told of: the "very nice" one."""
    stands = word in _MET or word in _ARTICLES or word in _OWNERS
    return word in ("very", "really") or not (stands or is_function_word(word))


def _of_nobody_else(text: str) -> set[str]:
    """The words of a text but those behind "my", "your" and the like in their clause:
    "my late mother and father" makes nobody a father."""
    found = set()
    for clause in _CLAUSES.split(text.lower()):
        owned = False
        for word in words_of(clause):
            owned = word in _OWNERS or (owned and word not in _OWN)
            found |= set() if owned else {word}
    return found


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
