"""The words that a sentence is about: its content words, by their Porter stems."""

import functools
import re
import threading

import snowballstemmer

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
_ENDINGS = frozenset(("e", "r", "er", "or", "an", "ian", "ist", "man", "th"))
# What says whether people are women or men: in a line, what stands for the same.
PEOPLE = {
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


def words_of(text: str) -> list[str]:
    """In lower case, and one word for those that stand for the same people."""
    return [PEOPLE.get(word, word) for word in _WORDS.findall(text.lower())]


def content_stems(text: str) -> frozenset[str]:
    """Porter stems of the words that a sentence is about; of all, if there are none."""
    words = _WORDS.findall(text.lower())
    return frozenset(
        stem(word) for word in words if word not in _FUNCTION_WORDS
    ) or frozenset(map(stem, words))


@functools.lru_cache(maxsize=2**15)
def stems_of(text: str) -> frozenset[str]:
    """Of all its words."""
    return frozenset(map(stem, _WORDS.findall(text.lower())))


def is_function_word(word: str) -> bool:
    """Whether a sentence has it whatever it is about."""
    return word in _FUNCTION_WORDS


def akin(a: str, b: str) -> bool:
    """Whether two stems stand for the same: "farm" and "farmer"."""
    short, long = sorted((a, b), key=len)
    ending = long[len(short) :]
    return a == b or (len(short) >= 4 and long.startswith(short) and ending in _ENDINGS)


# nltk has it, too, and takes more than a second to import.
_STEMMER = snowballstemmer.stemmer("porter")
_LOCK = threading.Lock()  # it keeps the word that it is at in itself


@functools.lru_cache(maxsize=2**16)
def stem(word: str) -> str:
    """Of a word in lower case."""
    with _LOCK:
        return _STEMMER.stemWord(word)
