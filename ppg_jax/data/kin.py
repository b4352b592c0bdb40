"""Whose a trait is: the partner's, or that of somebody whom the partner tells of.

Told "my dad is a soldier", a generator writes "i am a soldier".
"""

import functools
import re
from collections.abc import Sequence

from ppg_jax.data.said import is_function_word, is_grounded

_WORDS = re.compile(r"\w+")
_CLAUSES = re.compile(r"(?<=[.,!?;])")
_SHE = frozenset(
    _WORDS.findall(
        "mom mother wife sister daughter girlfriend aunt grandmother grandma niece"
    )
)
_HE = frozenset(
    _WORDS.findall(
        "dad father husband brother son boyfriend uncle grandfather grandpa nephew"
    )
)
_ANY = frozenset(
    _WORDS.findall(
        "spouse partner fiance ex kid child friend cousin roommate neighbor coworker "
        "boss dog cat"
    )
)
_SEVERAL = frozenset(
    _WORDS.findall(
        "parents brothers sisters sons daughters kids children family friends "
        "grandparents neighbors dogs cats"
    )
)
KIN = _SHE | _HE | _ANY | _SEVERAL
# Behind "my dad": what follows is told of him. Other verbs end in "s" or "ed".
_TELLS = frozenset(
    _WORDS.findall("is was has had are were have will can s just also always never who")
)
_SPEAKER = frozenset(_WORDS.findall("i we my me our us you your"))
_BETWEEN = frozenset(_WORDS.findall("and but because so"))
_THIRD = {"am": "is", "was": "was", "have": "has", "do": "does", "go": "goes"}
_ARE = {"am": "are", "was": "were"}
_SAME = frozenset(_WORDS.findall("just also never recently will can had used got grew"))


def as_said_of(sentence: str, heard: Sequence[str], share: float) -> str:
    """A sentence that `is_grounded` in what was heard, told of whom it was said.

    heard: in the order in which it was said. What the partner said of themselves comes
    first, and the sentence stays; else of one whom they spoke of in the third person
    ("i am a soldier." -> "my dad is a soldier."), the last one first. "" where it takes
    several together.
    """
    words = _WORDS.findall(sentence.lower())
    # Who is married to a doctor has a husband who is one.
    if words[:1] != ["i"] or not {*KIN, "married"}.isdisjoint(words):
        return sentence
    (_, own), *others = _by_person(tuple(heard))
    if is_grounded(sentence, [own], share):
        return sentence
    found = [who for who, text in others if is_grounded(sentence, [text], share)]
    return _told_of(found[-1], sentence) if found else ""


@functools.lru_cache(maxsize=2**8)  # each sentence of a persona asks for the same
def _by_person(heard: tuple[str, ...]) -> list[tuple[str, str]]:
    """What was said of the speaker, as of "", and of each of the speaker's people."""
    said, last = {"": []}, {}
    for clause in (c for text in heard for c in _CLAUSES.split(text.lower())):
        words, who = _WORDS.findall(clause), ""
        for n, word in enumerate(words):
            behind = words[n + 1 : n + 2]
            if word in KIN and (_is_mine(words[:n]) or behind == ["who"]):
                last |= {"she": word} if word in _SHE else {}
                last |= {"he": word} if word in _HE else {}
                who = word if _tells(word, behind) else who
                said[""].append(word)
                continue
            if word in _SPEAKER:
                who = ""
            elif word in last:
                who = last[word]
            said.setdefault(who, []).append(word)
        for told in said.values():
            told.append(",")
    return [(who, " ".join(told)) for who, told in said.items()]


def _is_mine(before: Sequence[str]) -> bool:
    """Whether these words end in "my", "my only", or "my old red"."""
    back = list(before[:-5:-1])
    if "my" not in back:
        return False
    between = back[: back.index("my")]
    return len(between) < 2 or not any(map(is_function_word, between))


def _tells(who: str, behind: Sequence[str]) -> bool:
    """Whether what is behind "my dad" tells of him, not of "my dad and i"."""
    if not behind or behind[0] in _SPEAKER or behind[0] in _BETWEEN:
        return False
    (word,) = behind
    verb = word in _TELLS or (len(word) > 3 and word.endswith(("s", "ed")))
    return verb or who in _SEVERAL  # of several people verbs have no ending


def _told_of(who: str, sentence: str) -> str:
    """ "i love tea." -> "my mom loves tea."; "" of what has no verb, and of several
    people who would be "a farmer"."""
    found = re.match(r"\s*i\s+([a-z]+)(.*)", sentence, re.IGNORECASE)
    if not found:
        return ""
    verb, rest = found[1], found[2]
    if who not in _SEVERAL:
        return f"my {who} {_third(verb)}{rest}"
    if verb in _ARE and re.match(r"\s+an?\b", rest):
        return ""
    return f"my {who} {_ARE.get(verb, verb)}{rest}"


def _third(verb: str) -> str:
    """Its third person: "loves" of "love"; of a past or an adverb the same."""
    if verb in _THIRD:
        return _THIRD[verb]
    if verb in _SAME or verb.endswith("ed"):
        return verb
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return verb + ("es" if re.search(r"(?:s|sh|ch|x|z|o)$", verb) else "s")
