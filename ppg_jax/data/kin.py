"""Whose a trait is: the partner's, or that of somebody whom the partner tells of.

Told "my dad is a soldier", a generator writes "i am a soldier".
"""

import functools
import re
from collections.abc import Iterator, Sequence

from ppg_jax.data.moods import contradicts, denies
from ppg_jax.data.said import is_grounded
from ppg_jax.data.stems import is_function_word
from ppg_jax.data.tense import ADVERBS, MODALS, PASTS

_WORDS = re.compile(r"\w+")
_MARKS = frozenset(".,!?;")
_CLAUSES = re.compile(r"(?<=[.,!?;])")
_SHE = frozenset(
    _WORDS.findall("""
    mom mum mommy mama mother wife sister daughter girlfriend gf fiancee aunt
    grandmother grandma granny nana niece granddaughter stepmom stepmother stepsister
    stepdaughter girl
    """)
)
_HE = frozenset(
    _WORDS.findall("""
    dad daddy papa father husband hubby brother son boyfriend bf uncle grandfather
    grandpa granddad nephew grandson stepdad stepfather stepbrother stepson boy
    """)
)
_ANY = frozenset(
    _WORDS.findall("""
    spouse partner fiance ex kid child friend bff cousin twin sibling grandchild
    roommate neighbor coworker colleague boss dog cat oldest eldest youngest baby
    toddler teacher coach manager
    """)
)
_SEVERAL = frozenset(
    _WORDS.findall("""
    parents brothers sisters sons daughters kids children family friends grandparents
    neighbors dogs cats girls boys twins siblings cousins grandkids grandchildren
    roommates coworkers colleagues
    """)
)
KIN = _SHE | _HE | _ANY | _SEVERAL
# "i am a teacher" tells of nobody else.
_OTHERS = frozenset(
    _WORDS.findall("girl boy girls boys baby teacher coach manager boss oldest twin")
)
_PETS = frozenset(("dog", "cat", "dogs", "cats"))
_CALLED = frozenset(  # without a "my": "dad is a baker"
    _WORDS.findall("mom mum mommy dad daddy grandma grandpa granny nana")
)
# Somebody unknown, by the ending: "my plumber is late , he snores".
_SOMEBODY = re.compile(r"\w{2,}(?:er|or|ist|ian|man|mate|ess|ant)")
_AGED = re.compile(
    r"\b(my|our|(?:have|has|got|with) an?) (\w+ years? old) "
    rf"({'|'.join(sorted(KIN - {'dog', 'cat', 'dogs', 'cats'}))})\b"
)
# Behind "my dad": what follows is told of him. Other verbs end in "s" or "ed".
_TELLS = PASTS | MODALS | ADVERBS | {"is", "has", "are", "have", "s", "who"}
_HAVE = frozenset(_WORDS.findall("have has got with"))
_SOME = frozenset(_WORDS.findall("a an one two three four five"))
_MY = frozenset(("my", "our"))
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
    themselves, and of people whom the sentence names, comes first, and the sentence
    stays; else of one whom they spoke of in the third person ("i am a soldier." -> "my
    dad is a soldier."), the last one first. "" where it takes several together, and
    where its owner `contradicts` it.
    """
    words = _words(sentence)
    people = _by_person(tuple(heard))
    if words[:1] != ["i"]:
        who = _meant(words, people)
        if " " in who:  # "my sisters husband"
            sentence = re.sub(rf"\b{words[1]}\b", who, sentence, count=1)
        fits = not contradicts(sentence, people[who])
        return sentence if fits and _is_of(who, words[2:], people, share, by) else ""
    people = people | {"": _with(words, people)}
    found = [
        who
        for who, texts in people.items()
        if is_grounded(sentence, [" . ".join(texts[:by])], share)
        and not contradicts(sentence, texts)
    ]
    # Whose dog is a collie has a collie.
    if not found or found[0] == "" or (found[-1] in _PETS and words[1:2] == ["have"]):
        return sentence if found else ""
    return _told_of(found[-1], sentence)


def _with(words: Sequence[str], people) -> list[str]:
    """What was said of the speaker and of those whom the words name, by utterance: who
    is married to a doctor has a husband who is one."""
    named = {*words, *(("husband", "wife") if "married" in words else ())}
    said = [texts for who, texts in people.items() if named.issuperset(who.split())]
    return [" . ".join(texts) for texts in zip(*said, strict=True)]


def _is_of(who: str, told: Sequence[str], people, share: float, by: int | None) -> bool:
    """Whether what is told of one of the speaker's people rests on what was said of
    them, if anything was: who says that a daughter sings has none who farms."""
    said = people[who][:by]
    empty = all(is_function_word(word) for text in said for word in _words(text))
    if not who or not told or empty:  # "just as my dad did"
        return True
    name = who.split()[-1]
    near = [c for t in people[""][:by] for c in _CLAUSES.split(t) if name in _words(c)]
    rest = re.sub(r"^(like|love|enjoy|prefer)s? ", r"i \1 ", " ".join(told))
    return is_grounded(rest, [" . ".join([*said, *near])], share)


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
        for clause in _CLAUSES.split(_apposed(text.lower())):
            for who, words in _of_clause(_apart(_words(clause)), last):
                if who not in said:
                    said[who] = [[] for _ in heard]
                said[who][turn] += words
            for told in said.values():
                told[turn].append(clause[-1:] if clause[-1:] in _MARKS else "")
    return {who: [" ".join(words) for words in told] for who, told in said.items()}


def _words(text: str) -> list[str]:
    """In lower case; "brother in law" is one, and "a friend of mine" is "my friend"."""
    text = re.sub(r"\b(\w+) in law\b", r"\1_in_law", text.lower())
    text = re.sub(
        r"\b(?:an?|one|two) ((?:\w+ )?\w+) of (?:mine|ours)\b", r"my \1", text
    )
    return _WORDS.findall(text)


def _apart(words: Sequence[str]) -> list[str]:
    """ "my husbands late" -> "my husband s late": told of him, as is what is his."""
    found = []
    for n, word in enumerate(words):
        one = word.removesuffix("s")
        owns = word not in KIN and one in KIN and KIN.isdisjoint(words[n + 1 : n + 2])
        found += [one, "s"] if owns else [word]
    return found


def _apposed(text: str) -> str:
    """ "my dad, a baker, is old" -> "my dad is a baker, my dad is old", "a 3 year old
    son" -> "a son who is 3 years old"."""
    text = _AGED.sub(r"\1 \3 who is \2", text)
    return re.sub(
        r"\b((?:my|our) \w+) ?, (an? \w+(?: \w+){0,3}) ?, (?=\w+s\b)",
        r"\1 is \2 , \1 ",
        text,
    )


def _of_clause(words: list[str], last: dict[str, str]) -> Iterator[tuple[str, list]]:
    """(of whom, words) of a clause; last: whom "she", "he" and "they" are, kept up to
    date.

    What is doubted or denied before "my dad" is so of him: "none of my kids play".
    """
    who, owner = "", ""
    for n, word in enumerate(words):
        behind, before = words[n + 1 : n + 3], words[max(n - 5, 0) : n]
        mine, kin = _is_mine(before), _is_kin(word)
        if mine and _owns(word, behind[:1]):
            owner = word
        elif kin and (mine or _is_called(word, before, behind) or _is_had(before)):
            theirs = owner if owner and before[-1:] == [owner] else ""
            if not mine and who in KIN - _SEVERAL:
                theirs = f"{who}s"  # "my sister has a son"
            name = f"{theirs} {word}".strip()
            last |= dict.fromkeys(_pronouns(word), name)
            yield who if theirs else "", [word]
            if _tells(word, behind, mine or word in _CALLED):
                who = name
                yield who, ["not"] if _is_doubted(before) else []
            continue
        elif before[-1:] == ["my"] and _SOMEBODY.fullmatch(word):
            last |= dict.fromkeys(("she", "he") if _tells(word, behind) else (), word)
        if word in _SPEAKER:
            who = ""
        elif word in last:
            who = last[word]
        yield who, [word]


def _is_kin(word: str) -> bool:
    return word.removesuffix("_in_law") in KIN


def _pronouns(word: str) -> tuple[str, ...]:
    """By which someone is spoken of next: of a dog what is told is told of its owner,
    who has a collie if "he is a collie"."""
    word = word.removesuffix("_in_law")
    if word in _PETS:
        return ()
    if word in _SEVERAL:
        return ("they",)
    return (*(["she"] * (word not in _HE)), *(["he"] * (word not in _SHE)))


def _is_called(word: str, before: Sequence[str], behind: Sequence[str]) -> bool:
    """Whether it is the "dad" of "and dad bakes", or has "who" behind it."""
    first = word in _CALLED and _BETWEEN.issuperset(before)
    return behind[:1] == ["who"] or (first and _tells(word, behind))


def _is_had(before: Sequence[str]) -> bool:
    """Whether these words end in "have a", "have two lovely", or "live with a"."""
    back = list(before[::-1])
    ends = [n for n, word in enumerate(back) if word in _HAVE]
    if not ends or "you" in back:
        return False
    between = back[: ends[0]]
    adjectives = [w for w in between if w not in _SOME and not w.isdecimal()]
    if back[ends[0]] == "with" and adjectives == between:  # "i work with kids"
        return False
    return len(adjectives) < 3 and not any(map(is_function_word, adjectives))


def _owns(word: str, behind: Sequence[str]) -> bool:
    """Whether it is the "sisters" of "sisters husband"."""
    return word.endswith("s") and not KIN.isdisjoint(behind) and word[:-1] in KIN


def _is_doubted(before: Sequence[str]) -> bool:
    """Whether these words, up to "my", deny what follows, or say "if"."""
    ends = [n for n, word in enumerate(before) if word in _BETWEEN]
    since = before[ends[-1] + 1 :] if ends else before
    return denies(" ".join(since)) or not _DOUBTS.isdisjoint(since)


def _is_mine(before: Sequence[str]) -> bool:
    """Whether these words end in "my", "our only", or "my old red"."""
    back = list(before[:-5:-1])
    if _MY.isdisjoint(back):
        return False
    between = back[: min(back.index(word) for word in _MY.intersection(back))]
    plain = not any(map(is_function_word, between)) and KIN.isdisjoint(between)
    return len(between) < 2 or plain


def _tells(who: str, behind: Sequence[str], mine: bool = True) -> bool:
    """Whether what is behind "my dad" tells of him, not of "my dad and i": a verb, or
    a verb behind a name; of what is not "my" ("i have a son") "who" alone."""
    if not mine:
        return behind[:1] in (["who"], ["that"])
    if not behind or behind[0] in _SPEAKER or behind[0] in _BETWEEN:
        return False
    named = not is_function_word(behind[0]) and any(map(_is_verb, behind[1:2]))
    # Of several people verbs have no ending.
    return _is_verb(behind[0]) or named or who in _SEVERAL


def _is_verb(word: str) -> bool:
    return word in _TELLS or (len(word) > 3 and word.endswith(("s", "ed")))


def _told_of(who: str, sentence: str) -> str:
    """ "i love tea." -> "my mom loves tea."; "" of what has no verb, and of several
    people who would be "a farmer"."""
    adverbs = "|".join(ADVERBS)
    found = re.match(rf"\s*i\s+((?:(?:{adverbs})\s+)*)([a-z]+)(.*)", sentence, re.I)
    if not found:
        return ""
    adverb, verb, rest = found.groups()
    one = who.split()[-1].removesuffix("_in_law")
    who = who.replace("_", " ")
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
    if verb in PASTS | MODALS or verb.endswith("ed"):
        return verb
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return verb + ("es" if re.search(r"(?:s|sh|ch|x|z|o)$", verb) else "s")
