"""Whether the one whom a sentence makes of the speaker was heard as the speaker.

Told "i met a nurse" or "my mom is great", a generator writes "i am a nurse." and "i am
a mother."
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from ppg_jax.data.stems import PEOPLE, is_function_word, stem, words_of
from ppg_jax.data.tense import MODALS, PASTS

_WORDS = re.compile(r"\w+")
_CLAUSES = re.compile(r"[.,!?;]")
_OWNERS = frozenset(("my", "your", "his", "her", "their", "our"))
# Behind these stands another one, or a thing: "i met a nurse", "in a band".
_MET = frozenset(
    _WORDS.findall("""
    met meet meeting saw see seeing hire hired know knew date dating dated call called
    visit visited need have has had got marry married love hate find found ask asked
    own owns with to by from for near beside like about than in at
    """)
)
# Before "a nurse": what makes nobody another one.
_IS = re.compile(
    r"\w+ly|still|ye\w+|no|hello|hi|well|ok|born|bec[ao]m\w+|stay\w*|remain\w*"
)
_THEY = frozenset(_WORDS.findall("who he she"))
_TELLS = (PASTS | MODALS) | frozenset(
    _WORDS.findall("""
    says thinks keeps wants makes who named called online
    yesterday today tonight last this next
    """)
)
_STUDIES = frozenset(  # to be one some day: "nursing school"
    _WORDS.findall("class classes college degree major program school training")
)
_THINGS = frozenset(_WORDS.findall("shift shifts job jobs hours career"))  # nobody
_ARTICLES = frozenset(_WORDS.findall("a an the this another some"))
_OWN = frozenset(("i", "am", "as", "being"))


def is_oneself(words: Sequence[str], heard: Sequence[str]) -> bool:
    """Whether nothing that was heard speaks against what these words say that one is:
    a mother has to be said as such, a nurse not only of somebody else."""
    one = _what_one_is(words)
    people = frozenset(PEOPLE.values()).intersection(one)
    if not people <= frozenset().union(*map(_of_nobody_else, heard)):
        return False
    return not _is_another(one, heard)


def _what_one_is(words: Sequence[str]) -> Sequence[str]:
    """Of "i am a father of two" what stands before "of"; else nothing."""
    if words[:2] != ["i", "am"]:
        return ()
    ends = [words.index(w) for w in ("of", "to", "with", "than", "my") if w in words]
    return words[2 : min(ends, default=len(words))]


def _is_another(one: Sequence[str], heard: Sequence[str]) -> bool:
    """Whether "a nurse" was heard as somebody else alone: "i met a nurse", "my nurse
    told me"; or is "a night shift", which nobody is."""
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
    if not _STUDIES.isdisjoint(behind):
        return True
    if not (all(map(is_function_word, behind)) or _TELLS.issuperset(behind)):
        return False  # "my nurse friends"
    before = list(words[max(n - 5, 0) : n])
    while before and _describes(before[-1]):
        before.pop()
    if not _OWNERS.isdisjoint(before[-1:]):
        return True
    if before and (before[-1] in _ARTICLES or before[-1].isdecimal()):
        before.pop()
        if before[-1:] in (["is"], ["was"]):
            return not _THEY.isdisjoint(before[-2:-1])
        if before and not is_function_word(before[-1]):
            return not _IS.fullmatch(before[-1])
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
