"""Whose a trait is: the partner's, or that of somebody whom the partner tells of.

Told "my dad is a soldier", a generator writes "i am a soldier".
"""

import functools
import re
from collections.abc import Iterator, Sequence

from ppg_jax.data.moods import contradicts, denies
from ppg_jax.data.said import is_grounded
from ppg_jax.data.stems import is_function_word

_WORDS = re.compile(r"\w+")
_CLAUSES = re.compile(r"(?<=[.,!?;])")
_SHE = frozenset(
    _WORDS.findall(
        "mom mum mommy mama mother wife sister daughter girlfriend aunt grandmother "
        "grandma granny niece"
    )
)
_HE = frozenset(
    _WORDS.findall(
        "dad daddy papa father husband hubby brother son boyfriend uncle grandfather "
        "grandpa nephew"
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
# Verbs that third persons and pasts share, and what may stand before a verb.
_PAST = frozenset(
    _WORDS.findall("""
    was were had did went made got grew came saw ate drank met won lost left took bought
    taught ran wrote drove sold built broke quit gave knew found felt kept told became
    began fell fought flew spent slept sang swam wore said thought
    """)
)
_MODAL = frozenset(
    _WORDS.findall("can could will would shall should may might must cannot used wont")
)
_ADVERBS = frozenset(
    _WORDS.findall("just also always never ever often still usually sometimes recently")
)
# Behind "my dad": what follows is told of him. Other verbs end in "s" or "ed".
_TELLS = _PAST | _MODAL | _ADVERBS | {"is", "has", "are", "have", "s", "who"}
_SPEAKER = frozenset(_WORDS.findall("i we my me our us you your"))
_BETWEEN = frozenset(_WORDS.findall("and but because so"))
_THIRD = {"am": "is", "have": "has", "do": "does", "go": "goes", "dont": "doesnt"}
_ARE = {"am": "are", "was": "were"}
_DOUBTS = frozenset(_WORDS.findall("if wish hope doubt wonder"))


def as_said_of(
    sentence: str, heard: Sequence[str], share: float, by: int | None = None
) -> str:
    """A sentence that `is_grounded` in what was heard, told of whom it was said.

    heard: all that the partner has said, in that order; by: after how many of these
    utterances, all if absent, the sentence has to be grounded. What the partner said of
    themselves comes first, and the sentence stays; else of one whom they spoke of in
    the third person ("i am a soldier." -> "my dad is a soldier."), the last one first.
    "" where it takes several together, and where its owner `contradicts` it.
    """
    words = _WORDS.findall(sentence.lower())
    people = _by_person(tuple(heard))
    # Who is married to a doctor has a husband who is one.
    if words[:1] != ["i"] or not {*KIN, "married"}.isdisjoint(words):
        who = _meant(words, people)
        if " " in who:  # "my sisters husband"
            sentence = re.sub(rf"\b{words[1]}\b", who, sentence, count=1)
        return "" if contradicts(sentence, people[who]) else sentence
    found = [
        who
        for who, texts in people.items()
        if is_grounded(sentence, [" , ".join(texts[:by])], share)
        and not contradicts(sentence, texts)
    ]
    if not found or found[0] == "":
        return sentence if found else ""
    return _told_of(found[-1], sentence)


def _meant(words: Sequence[str], people) -> str:
    """Of whom a sentence tells that begins with "my husband"; "" of anybody else."""
    if words[:1] != ["my"] or not words[1:]:
        return ""
    ends = [who for who in people if who and who.split()[-1] == words[1]]
    return words[1] if words[1] in ends else ends[-1] if ends else ""


@functools.lru_cache(maxsize=2**8)  # each sentence of a persona asks for the same
def _by_person(heard: tuple[str, ...]) -> dict[str, list[str]]:
    """What was said of the speaker, as of "", and of each of the speaker's people, the
    last of them last, by utterance. Somebody's people have his or her name before
    theirs: "sisters husband"."""
    said: dict[str, list[list[str]]] = {"": [[] for _ in heard]}
    last: dict[str, str] = {}
    for turn, text in enumerate(heard):
        for clause in _CLAUSES.split(text.lower()):
            for who, words in _of_clause(_WORDS.findall(clause), last):
                if who not in said:
                    said[who] = [[] for _ in heard]
                said[who][turn] += words
            for told in said.values():
                told[turn].append(",")
    return {who: [" ".join(words) for words in told] for who, told in said.items()}


def _of_clause(words: list[str], last: dict[str, str]) -> Iterator[tuple[str, list]]:
    """(of whom, words) of a clause; last: whom "she" and "he" are, kept up to date.

    What is doubted or denied before "my dad" is so of him: "none of my kids play".
    """
    who, owner = "", ""
    for n, word in enumerate(words):
        behind, before = words[n + 1 : n + 2], words[max(n - 5, 0) : n]
        named = word in KIN and (_is_mine(before) or behind == ["who"])
        if _is_mine(before) and _owns(word, behind):
            owner, named = word, False
        elif named:
            name = f"{owner} {word}" if before[-1:] == [owner] else word
            last |= {"she": name} if word in _SHE else {}
            last |= {"he": name} if word in _HE else {}
            yield "", [word]
            if _tells(word, behind):
                who = name
                yield who, ["not"] if _is_doubted(before) else []
            continue
        if word in _SPEAKER:
            who = ""
        elif word in last:
            who = last[word]
        yield who, [word]


def _owns(word: str, behind: Sequence[str]) -> bool:
    """Whether it is the "sisters" of "sisters husband"."""
    return word.endswith("s") and not KIN.isdisjoint(behind) and word[:-1] in KIN


def _is_doubted(before: Sequence[str]) -> bool:
    """Whether these words, up to "my", deny what follows, or say "if"."""
    ends = [n for n, word in enumerate(before) if word in _BETWEEN]
    since = before[ends[-1] + 1 :] if ends else before
    return denies(" ".join(since)) or not _DOUBTS.isdisjoint(since)


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
    adverbs = "|".join(_ADVERBS)
    found = re.match(rf"\s*i\s+((?:(?:{adverbs})\s+)*)([a-z]+)(.*)", sentence, re.I)
    if not found:
        return ""
    adverb, verb, rest = found.groups()
    one = who.split()[-1]
    theirs = "her" if one in _SHE else "his" if one in _HE else "their"
    rest = re.sub(r"\bmy\b", theirs, rest)
    if one not in _SEVERAL:
        return f"my {who} {adverb}{_third(verb)}{rest}"
    if verb in _ARE and re.match(r"\s+an?\b", rest):
        return ""
    return f"my {who} {adverb}{_ARE.get(verb, verb)}{rest}"


def _third(verb: str) -> str:
    """Its third person: "loves" of "love"; of a past and "can" the same."""
    if verb in _THIRD:
        return _THIRD[verb]
    if verb in _PAST | _MODAL or verb.endswith("ed"):
        return verb
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return verb + ("es" if re.search(r"(?:s|sh|ch|x|z|o)$", verb) else "s")
