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


_DENIALS = frozenset(
    _WORDS.findall("""
    not never no t cannot neither nor without hate hates dislike ain aint dont doesnt
    didnt cant wont isnt arent wasnt havent hasnt
    """)
)
# "t" is what is left of "don't" where marks are cut, and else no denial.
_CUT = frozenset(
    _WORDS.findall("""
    don doesn didn can won isn aren wasn weren haven hasn hadn couldn wouldn shouldn ain
    """)
)
_WISHES = frozenset(_WORDS.findall("want wants wanna wish hope hoping would d plan"))
_WISHED = frozenset(_WORDS.findall("to i be have a an some"))  # "want a", "hope to"
_CUSTOM = frozenset(_WORDS.findall("am m is are re was were be get got"))
_SPEAKER = frozenset(_WORDS.findall("i we my"))
_NOT_DENIED = frozenset(_WORDS.findall("stop wait resist help only"))  # "cannot wait"
# Content words that these reach over: "not like to cook", "would love to be a pilot".
_REACH = 2
# What its owner likes; others tell what it is, has or does.
_LIKES = re.compile(r"\s*(?:i (?:like|love|enjoy|prefer)|my favou?rite) ")
_CLAUSES = re.compile(r"[.,!?;]")
_END = re.compile(r"(.*[^\s,])\s*,\s*(\w+(?:\s+\w+){0,2})(\s*[.!]?)")
_ENDINGS = frozenset(("e", "r", "er", "or", "an", "ian", "ist", "man", "th"))
# What says whether people are women or men: in a line, what stands for the same.
_PEOPLE = {
    word: words.split()[0]
    for words in (
        "woman womans female lady girl",
        "man mans male guy boy gentleman",
        "mother mothers mom moms mommy mum mama",
        "father fathers dad dads daddy papa",
        "wife wives wifes",
        "husband husbands hubby hubbys",
        "daughter daughters",
        "son sons",
        "sister sisters",
        "brother brothers",
        "girlfriend girlfriends",
        "boyfriend boyfriends",
        "grandmother grandmothers grandma grandmas granny",
        "grandfather grandfathers grandpa grandpas",
        "aunt aunts",
        "uncle uncles",
        "widow",
        "widower",
    )
    for word in words.split()
}
# Those that one may be, and not only have: "my dad" makes nobody a father.
_SELVES = frozenset(_WORDS.findall("woman man mother father grandmother grandfather"))


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
    what was denied speaks for no sentence that denies nothing, nor does what was wished
    for speak for what one is, has or does. Nobody is a woman or a father, or has a
    wife, who has not said so, whatever the share: that is no matter for a guess.
    """
    words = _words(sentence)
    stems, negative = content_stems(" ".join(words)), denies(sentence)
    if negative and not any(stems & _parted(True, False, text)[1] for text in heard):
        return False
    real = not (_LIKES.match(sentence.lower()) or wishes(sentence))
    known = frozenset().union(*(_parted(not negative, real, t)[0] for t in heard))
    if not {_stem(word) for word in words if word in _PEOPLE} <= known:
        return False
    selves = _SELVES.intersection(words) if words[:2] == ["i", "am"] else frozenset()
    if not selves <= frozenset().union(*map(_not_mine, heard)):
        return False
    found = sum(any(_akin(stem, other) for other in known) for stem in stems)
    return found >= share * len(stems) > 0


def _words(text: str) -> list[str]:
    """In lower case, and one word for those that stand for the same people."""
    return [_PEOPLE.get(word, word) for word in _WORDS.findall(text.lower())]


def _not_mine(text: str) -> set[str]:
    """The words of a text but those behind "my", as "my dad" and "my late dad"."""
    words = _words(text)
    return {w for n, w in enumerate(words) if "my" not in words[max(n - 2, 0) : n]}


def _akin(a: str, b: str) -> bool:
    short, long = sorted((a, b), key=len)
    ending = long[len(short) :]
    return a == b or (len(short) >= 4 and long.startswith(short) and ending in _ENDINGS)


def without_guessed_end(sentence: str, heard: Sequence[str]) -> str:
    """The sentence without up to three words behind a comma of which none was heard.

    Told "i live in lisbon", a generator writes "i live in lisbon , canada."
    """
    found = _END.fullmatch(sentence)
    known = frozenset().union(*map(_stems, heard))
    if found and not content_stems(found[2]) & known:
        return found[1] + found[3]
    return sentence


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


@functools.lru_cache(maxsize=2**12)
def _parted(denials: bool, wishes: bool, text: str) -> tuple[frozenset, frozenset]:
    """The stems of a text without what it denies, or wishes for, if these are to be
    parted from the others; and of what it does.

    What belongs to "my" is there in any case.
    """
    stems, parted = set(), set()
    for clause in _CLAUSES.split(text.lower()):
        words, left = _words(clause), 0
        for n, word in enumerate(words):
            if (denials and _denies(words, n)) or (wishes and _wishes(words, n)):
                left = _REACH
            elif word in ("my", "but"):
                left = 0
                stems.add(word)
            elif word in ("or", "nor") and n:
                left = left and _REACH
            elif not left:
                stems.add(_stem(word))
            elif word not in _FUNCTION_WORDS:
                parted.add(_stem(word))
                left -= 1
    return frozenset(stems), frozenset(parted)


def is_function_word(word: str) -> bool:
    """Whether a sentence has it whatever it is about."""
    return word in _FUNCTION_WORDS


def denies(sentence: str) -> bool:
    words = _words(sentence)
    return any(_denies(words, n) for n in range(len(words)))


def wishes(sentence: str) -> bool:
    words = _words(sentence)
    return any(_wishes(words, n) for n in range(len(words)))


def _denies(words: Sequence[str], n: int) -> bool:
    """Whether a word denies those behind it; not the "no" of "no i love cats"."""
    if words[n] == "t":
        return n > 0 and words[n - 1] in _CUT
    if words[n] == "no":
        return n > 0 or _SPEAKER.isdisjoint(words[1:2])
    return words[n] in _DENIALS and _NOT_DENIED.isdisjoint(words[n + 1 : n + 2])


def _wishes(words: Sequence[str], n: int) -> bool:
    """Whether a word wishes for what is behind it: "want a dog", "would love to".

    Or tells that it is over: "used to be a nurse", but not "am used to the cold".
    """
    if words[n] == "used":
        custom = n > 0 and words[n - 1] in _CUSTOM
        return words[n + 1 : n + 2] == ["to"] and not custom
    if words[n] not in _WISHES:
        return False
    behind = [word for word in words[n + 1 : n + 4] if word not in ("really", "also")]
    loves = behind[:1] in (["like"], ["love"])
    if words[n] in ("would", "d") and not loves:
        return False
    return not _WISHED.isdisjoint(behind[loves : loves + 1])


# nltk has it, too, and takes more than a second to import.
_STEMMER = snowballstemmer.stemmer("porter")
_LOCK = threading.Lock()  # it keeps the word that it is at in itself


@functools.lru_cache(maxsize=2**16)
def _stem(word: str) -> str:
    with _LOCK:
        return _STEMMER.stemWord(word)
