"""What a text denies, wishes for, or tells as over, by its words alone."""

import dataclasses
import enum
import functools
import itertools
import operator
import re
from collections.abc import Iterator, Sequence

from ppg_jax.data.stems import akin, content_stems, is_function_word, stem, words_of
from ppg_jax.data.tense import is_ahead, is_over

_WORDS = re.compile(r"\w+")
_DENIALS = frozenset(
    _WORDS.findall("""
    not never no none nobody nothing t cannot neither nor without hardly barely rarely
    hate hates dislike ain aint dont doesnt didnt cant wont isnt arent wasnt havent
    hasnt
    """)
)
_HATES = frozenset(_WORDS.findall("hate hates dislike"))
# "t" is what is left of "don't" where marks are cut, and else no denial.
_CUT = frozenset(
    _WORDS.findall("""
    don doesn didn can won isn aren wasn weren haven hasn hadn couldn wouldn shouldn ain
    """)
)
_WISHES = frozenset(
    _WORDS.findall("want wants wanna wish hope hoping would should d plan")
)
_WISHED = frozenset(_WORDS.findall("to i me be have a an some"))  # "wants me to"
_BECOMES = frozenset(_WORDS.findall("become becoming get getting"))
_WOULD = frozenset(_WORDS.findall("would could might d"))
_SPEAKER = frozenset(_WORDS.findall("i we my"))
# Behind "and": what is so now, "i was a nurse and have two cats".
_NOW = frozenset(_WORDS.findall("have am own live work love like got bought"))
# "cannot wait", "not just"; "cannot believe that i won".
_NOT_DENIED = frozenset(_WORDS.findall("stop wait resist help only just"))
_CAN = frozenset(_WORDS.findall("can could cannot cant couldnt"))
_BEATS = frozenset(_WORDS.findall("than beats beat better"))  # "nothing is better"
_OPENERS = frozenset(_WORDS.findall("oh and but well so because"))
# They end a denial: "no fish because i am vegan".
_TURNS = frozenset(_WORDS.findall("but because cause cuz without"))
# Content words that these reach over: "not like to cook", "would love to be a pilot".
_REACH = 2
# What its owner likes; others tell what it is, has or does.
LIKES = re.compile(
    r"\s*(?:i (?:like|love|enjoy|prefer)|my favou?rite(?:(?: \w+){0,3}? (?:is|are))?) "
)
_LIKING = frozenset(_WORDS.findall("like likes love loves enjoy enjoys prefer stand"))
_LIKED = frozenset(map(stem, _LIKING))
_EMPTY = frozenset(_WORDS.findall("anymore longer yet really much think believe"))
# "i do not", and no more: of what was asked before.
_DENIES_IT = re.compile(
    r"(?:(?:no|nope|well|sadly|but) )*i (?:\w+ )?(?:not|cannot|\w+nt|\w+n t)"
    r"(?: (?:really|either|anymore|yet|though|myself))*(?:$| (?:but|because|and|so)\b)"
)
# "not a big fan of", "not into"
_NO_FAN = re.compile(r"\b(not(?: really)?) (?:an? (?:\w+ )?fan of|into|fond of)\b")
_MARKS = re.compile(r"([.,!?;])")
_OR = frozenset(("or", "nor"))
# Clauses without them, up to an "or", go on from the one before: "rats, cats or birds".
_SAYS = frozenset(
    _WORDS.findall("i we he she they it you am is are was were my do does have has")
)


class Mood(enum.Flag):
    """How a text tells what is not so."""

    DENIED = enum.auto()
    WISHED = enum.auto()  # or planned, or supposed
    OVER = enum.auto()


@dataclasses.dataclass
class _Part:
    """What one word denies, wishes for, or tells as over."""

    likes: bool  # "hate dogs", "do not like dogs": how one likes them
    stems: set[str] = dataclasses.field(default_factory=set)  # of content words
    past: bool = False  # told by a verb of the past, which one of the present ends


@dataclasses.dataclass
class _Clause:
    words: list[str]
    mark: str  # that ends it
    goes_on: bool  # what is denied or wished for before it
    supposed: int = 0  # from which word on it tells what is not so (`_supposed`)
    denied: bool = False  # as a whole: the question of "do you smoke? i do not"


def denies(sentence: str) -> bool:
    return Mood.DENIED in mood_of(sentence)


def mood_of(sentence: str) -> Mood:
    words = words_of(sentence)
    ahead = Mood.WISHED if _supposed(words) < len(words) else Mood(0)
    found = (_mood_at(words, n) for n in range(len(words)))
    return functools.reduce(operator.or_, found, ahead)


@functools.lru_cache(maxsize=2**12)
def parted(moods: Mood, text: str, reach: int = _REACH) -> tuple[frozenset, frozenset]:
    """The stems of a text without what it tells in one of the moods; and those of what
    it tells in one.

    reach: so many content words behind a word that denies.
    What belongs to "my" is among the others in any case, and with what is denied as
    well: who hates a job has one, and hates it.
    """
    kept, others = set(), set()
    for word, part, owned in _scan(text, moods, reach):
        if part is None or owned:
            kept.add(stem(word))
        if part is not None and not is_function_word(word):
            others.add(stem(word))
    return frozenset(kept), frozenset(others)


def denied_alike(sentence: str, heard: Sequence[str]) -> bool:
    """Whether what a sentence denies was denied, and what else it tells was not.

    How one likes it is no matter ("i do not like dogs" is not of cats), nor is what
    was denied of one thing where the sentence denies another that was affirmed ("i do
    not speak french, i speak spanish").
    """
    affirmed, denied = parted(Mood.DENIED, sentence, len(sentence))
    denied = frozenset(one for one in denied if one not in _LIKED) or denied
    kept, others = zip(*(parted(Mood.DENIED, text) for text in heard), strict=True)
    known, against = frozenset().union(*kept), frozenset().union(*others)
    told = affirmed & content_stems(sentence)
    if told & (against - known):
        return False
    shared = {one for one in denied if any(akin(one, other) for other in against)}
    return bool(shared - known) or (bool(shared) and not (denied - shared) & known)


def contradicts(sentence: str, heard: Sequence[str]) -> bool:
    """Whether its owner has denied what a sentence tells, and not taken it back.

    heard: the owner's words, in the order in which they were said. A denial is of this
    sentence if all that it is about is in it ("i never drink beer" of "i drink beer
    every day", not "i do not play golf" of "i play chess"), and of its kind: who hates
    a job has one. It stands unless the same or a later utterance says otherwise. What
    was wished for and never said to be is no fact either, nor is what is over. A
    sentence in such a mood is not looked at.
    """
    if mood_of(sentence) or not heard:
        return False
    about, likes = content_stems(sentence), bool(LIKES.match(sentence.lower()))

    def tells_of(part: _Part, known: set[str]) -> bool:
        return part.likes == likes and part.stems <= about and not part.stems <= known

    known: set[str] = set()  # of the newer utterances
    for text in heard[::-1]:
        denied, affirmed = _parts(text, Mood.DENIED)
        known |= affirmed
        if any(tells_of(part, known) for part in denied):
            return True
    unreal = Mood.WISHED | Mood.OVER
    wished, others = zip(*(_parts(text, unreal) for text in heard), strict=True)
    known = set().union(*others)
    return not likes and any(
        tells_of(part, known) for parts in wished for part in parts
    )


@functools.lru_cache(maxsize=2**12)  # asked for each sentence of each moment
def _parts(text: str, moods: Mood) -> tuple[tuple[_Part, ...], frozenset[str]]:
    """What each word of a text tells in one of the moods; the stems of all others."""
    parts: dict[int, _Part] = {}
    others = set()
    for word, part, _ in _scan(text, moods):
        if part is None:
            others.add(stem(word))
        else:
            parts[id(part)] = part
    return tuple(p for p in parts.values() if p.stems), frozenset(others)


def _scan(text: str, moods: Mood, reach: int = _REACH) -> Iterator[tuple]:
    """The words of a text but those that bring one of the moods: each with the `_Part`
    that it belongs to, or None, and whether it is the speaker's, behind "my".

    "or" begins a part of the same kind: "not like cats or dogs"; so does each comma of
    a list that an "or" ends: "not smoke, drink, or gamble".
    """
    part = None
    for clause in _clauses(text):
        words = clause.words
        part = _Part(part.likes) if part and clause.goes_on else None
        left, owned = reach, False
        denied = 0 if Mood.DENIED in moods and clause.denied else len(words)
        whole = min(clause.supposed if Mood.WISHED in moods else len(words), denied)
        yield from _all_of(words[whole:])
        for n, word in enumerate(words[:whole]):
            if mood := _mood_at(words, n) & moods:
                past = mood == Mood.OVER and word != "used"  # to do something
                part, owned = _Part(word in _HATES, past=past), False
                # "my cat died and a dog came"
                left = len(words) if mood == Mood.OVER and word != "my" else reach
                continue
            if word in _OR and part:
                part, left = _Part(part.likes), reach
            elif _ends(words, n, part):
                part = None
            owned = owned or (word == "my" and left <= reach)
            reached = part if left else None
            yield word, reached, owned
            if reached and not (is_function_word(word) or word in _BECOMES):
                left -= 1
                if word in _LIKING and not part.stems:
                    part.likes = True
                elif word not in _EMPTY:
                    part.stems.add(stem(word))


def _all_of(words: Sequence[str]) -> Iterator[tuple]:
    """As `_scan` has it, words that are denied, or not so, together."""
    about = {stem(word) for word in words if not is_function_word(word)}
    part = _Part(not about.isdisjoint(_LIKED), about - _LIKED)
    return ((word, part, False) for word in words)


def _clauses(text: str) -> list[_Clause]:
    text = _NO_FAN.sub(r"\1 like", text.lower())
    pieces = ["", *_MARKS.split(text), ""]
    clauses, listed = [], False  # whether the clause behind goes on up to an "or"
    for n in range(len(pieces) - 2, 0, -2):
        words, mark = words_of(pieces[n]), pieces[n + 1]
        head = words[: words.index("but")] if "but" in words else words
        on = listed and mark == "," and head == words
        listed = (on or not _OR.isdisjoint(head)) and _SAYS.isdisjoint(head)
        begins = pieces[n - 1] == "," or words[:1] in (["or"], ["nor"])
        clauses.append(_Clause(words, mark, listed and begins))
    asked: list[_Clause] = []
    for sentence in _sentences(clauses[::-1]):
        words = [word for clause in sentence for word in clause.words]
        for clause in asked if _DENIES_IT.match(" ".join(words[:8])) else ():
            clause.denied = True
        asked = sentence if sentence[-1].mark == "?" else []
        left = _supposed(words)
        for clause in sentence:
            clause.supposed, left = left, max(left - len(clause.words), 0)
    return clauses[::-1]


def _sentences(clauses: Sequence[_Clause]) -> Iterator[list[_Clause]]:
    """The clauses of a text by what a comma does not end."""
    sentence = []
    for clause in clauses:
        sentence.append(clause)
        if clause.mark != ",":
            yield sentence
            sentence = []


def _supposed(words: Sequence[str]) -> int:
    """From which word on a sentence tells what would be so if something else were: all
    of "if i won i would sail", nothing of "if i win i sail"."""
    pairs = enumerate(itertools.pairwise(words))
    would = [n for n, (a, b) in pairs if a in ("i", "we") and b in _WOULD]
    if "if" not in words or not would:
        return len(words)
    return min(words.index("if"), would[0])


def _ends(words: Sequence[str], n: int, part: _Part | None) -> bool:
    """Whether a denial reaches no further: at "but", or "and i" of "and i sing"."""
    if words[n] in ("and", "so"):
        news = _SPEAKER | _NOW if part and part.past else _SPEAKER
        return not news.isdisjoint(words[n + 1 : n + 2])
    # "no dog, just a cat", "was a nurse, now a cook", not "not just a cat"
    if words[n] in ("just", "i", "now"):
        return part is not None and bool(part.stems)
    return words[n] in _TURNS


def _mood_at(words: Sequence[str], n: int) -> Mood:
    """In which mood a word puts those behind it."""
    found = Mood(0)
    if _denies(words, n):
        found |= Mood.DENIED
    if _wishes(words, n) or is_ahead(words, n):
        found |= Mood.WISHED
    if is_over(words, n):
        found |= Mood.OVER
    return found


def _denies(words: Sequence[str], n: int) -> bool:
    """Whether a word denies those behind it; not the "no" of "no i love cats"."""
    word, behind = words[n], words[n + 1 : n + 4]
    if words[max(n - 1, 0) : n + 1] in (["instead", "of"], ["rather", "than"]):
        return True
    if word == "no":
        return n > 0 or _SPEAKER.isdisjoint(behind[:1])
    if word == "t":
        return n > 0 and words[n - 1] in _CUT and not _praises(words, n)
    return word in _DENIALS and not _praises(words, n)


def _praises(words: Sequence[str], n: int) -> bool:
    """Whether a denying word says how much of a thing is so: "cannot live without it",
    "cannot get enough of it", "nothing is better", "who does not love it"."""
    before, behind = words[max(n - 3, 0) : n], words[n + 1 : n + 4]
    if not _NOT_DENIED.isdisjoint(behind[:1]):
        return True
    if words[n] == "without":
        return not _DENIALS.isdisjoint(before)
    if words[n] in ("nothing", "nobody"):
        return behind[:1] == ["like"] or not _BEATS.isdisjoint(behind)
    if "who" in before and _OPENERS.issuperset(words[: words.index("who")]):
        return True
    can = not _CAN.isdisjoint([*before[-1:], words[n]])
    return can and (
        behind[:1] == ["believe"]
        or "without" in behind
        or behind[:2] == ["get", "enough"]
    )


def _wishes(words: Sequence[str], n: int) -> bool:
    """Whether a word wishes for what is behind it: "want a dog", "would love to"."""
    if words[n] not in _WISHES:
        return False
    if words[n] == "should":
        return True
    behind = [word for word in words[n + 1 : n + 4] if word not in ("really", "also")]
    loves = behind[:1] in (["like"], ["love"])
    if words[n] in ("would", "d") and not loves:
        return False
    return not _WISHED.isdisjoint(behind[loves : loves + 1])
