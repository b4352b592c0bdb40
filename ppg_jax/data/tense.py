"""What a text tells as over, or as still ahead, by its words alone."""

import re
from collections.abc import Sequence

_WORDS = re.compile(r"\w+")
# Verbs that third persons and pasts share, and what may stand before a verb.
PASTS = frozenset(
    _WORDS.findall("""
    was were had did went made got grew came saw ate drank met won lost left took bought
    taught ran wrote drove sold built broke quit gave knew found felt kept told became
    began fell fought flew spent slept sang swam wore said thought
    """)
)
MODALS = frozenset(
    _WORDS.findall("can could will would shall should may might must cannot used wont")
)
ADVERBS = frozenset(
    _WORDS.findall("just also always never ever often still usually sometimes recently")
)
# "going to move", "almost became", "in school to be a": it is not so yet.
_PLANNED = frozenset(
    _WORDS.findall("""
    be become have get buy own move start open adopt learn marry retire travel try take
    go quit study visit
    """)
)
_DONE = frozenset(_WORDS.findall("became got went bought had took made lost won quit"))
_PLANS = frozenset(_WORDS.findall("moving buying adopting expecting getting starting"))
_BE = frozenset(_WORDS.findall("am m are re be"))
_TOWARDS = frozenset(
    _WORDS.findall("going wait planning hoping trying pretend dream goal")
)
_COMES = frozenset(_WORDS.findall("retire graduate finish move marry"))  # "when i"
_STUDIES = frozenset(_WORDS.findall("school college university studying training"))
_CUSTOM = frozenset(_WORDS.findall("am m is are re was were be get got"))
# "i was a child" and "i was a bit late" tell of no end.
_OF_ALL = frozenset(
    _WORDS.findall("""
    baby bit boy child complete few girl huge kid little lot only preemie small tad teen
    teenager total twin young
    """)
)
_NOBODY = frozenset(_WORDS.findall("it that this there what which who"))
_ENDED = frozenset(_WORDS.findall("lived worked owned"))
_LONG_AGO = re.compile(
    r"\b(?:when i was|as an? (?:kid|child|teen\w*)|growing up|years ago|back then|once"
    r"|in (?:high school|middle school|school|college|university|my youth))\b"
)
_NEAR = 12  # words
# "i played soccer in high school"; who met or learned something then has it still.
_DID = frozenset(
    _WORDS.findall("""
    played studied took did danced sang ran swam wrestled rode practiced volunteered
    competed boxed skated smoked drove taught acted drew painted
    """)
)
_ASKS = frozenset(_WORDS.findall("ask asks asked asking wonder know sure"))
_SPOKE = frozenset(_WORDS.findall("he she they always all was were"))
_THINK = frozenset(_WORDS.findall("thinks assumes believes guesses thought think"))
_BORN = frozenset(_WORDS.findall("baby child children kid kids twins son daughter"))
# "my dog died", "my grandma passed away", not "my son passed his exam".
_GONE = re.compile(
    r"my(?: \w+){1,2} (?:died\b|passed(?: (?:away|last|recently|in|when|before)\b|$))"
)
_FOR_YEARS = re.compile(r"\bfor (?:\w+ ){0,2}(?:years|months|decades|ages)\b")
_SOLD = re.compile(r"\b(?:sold|lost) (?:my|our)(?: \w+){1,3}$")
_ARE = frozenset(_WORDS.findall("is are has have s still works lives"))
# One verb of the present: "i am a nurse.", "i have two cats."; not "i have been ill".
_NO_PRESENT = PASTS | MODALS | ADVERBS | {"do", "now"}
_PRESENT = re.compile(
    r"i (?!have been\b|(?:am|have) (?!married)\w{2,}(?:ing|ed)\b|\w{2,}ed\b)(\w+)(.*)"
)

_IS = re.compile(r"(my \w+) (is|has)( (?!\w+(?:ing|ed)\b|been\b|not\b).*)")


def is_over(words: Sequence[str], n: int) -> bool:
    """Whether a word tells that what is behind it is over: "used to be a nurse", but
    not "am used to the cold"; "was a nurse"; "quit smoking"."""
    word, before, behind = words[n], words[max(n - 1, 0) : n], words[n + 1 : n + 3]
    if word == "quit" and behind[:1] in (["my"], ["the"]):
        return True
    if word == "with":  # "i broke up with my girlfriend"
        return words[max(n - 2, 0) : n] in (["broke", "up"], ["split", "up"])
    if word in ("quit", "stopped", "up"):
        gives = word != "up" or before in (["gave"], ["given"])
        return gives and bool(behind) and behind[0].endswith("ing")
    if word == "from":
        return before in (["off"], ["fired"], ["retired"], ["resigned"])
    if word in ("was", "were"):
        one = behind[:1] in (["a"], ["an"]) and _OF_ALL.isdisjoint(behind[1:])
        years = _FOR_YEARS.search(" ".join(words[n : n + 9]))
        lasted = one or years or "until" in words[n + 1 :]
        return bool(lasted) and _NOBODY.isdisjoint(before)
    if word == "used":
        return behind[:1] == ["to"] and _CUSTOM.isdisjoint(before)
    if word in ("sold", "lost"):
        return behind[:1] in (["my"], ["our"])
    if word == "my":
        gone = _GONE.match(" ".join(words[n : n + 5]))
        return bool(gone) or _is_sold_too(
            words[max(n - 7, 0) : n], words[n + 2 : n + 4]
        )
    if word == "had":  # who had a daughter years ago has one
        born = not _BORN.isdisjoint(words[n + 1 : n + 4])
        return not born and _is_long_ago(words, n)
    if before not in ([], ["i"], ["we"], ["also"]):
        return False
    return word in _ENDED or (word in _DID and _is_long_ago(words, n))


def _is_sold_too(before: Sequence[str], behind: Sequence[str]) -> bool:
    """Whether "my boat" is sold as well: "i sold my car and my boat", of which nothing
    else is told."""
    sold = before[-1:] == ["and"] and _SOLD.search(" ".join(before[:-1]))
    tells = not (PASTS | MODALS | _ARE).isdisjoint(behind)
    return bool(sold) and not tells


def _is_long_ago(words: Sequence[str], n: int) -> bool:
    """Whether what a word tells was so in a time that is gone: "in college", unless it
    is so "still"."""
    near = words[max(n - _NEAR, 0) : n + _NEAR]
    return "still" not in near and bool(_LONG_AGO.search(" ".join(near)))


def is_ahead(words: Sequence[str], n: int) -> bool:
    """Whether a word says that what is behind it is not so yet: "going to move",
    "almost became", "studying to be a nurse", "thinking of getting a dog"; or that
    others ask or think so: "asked me if i am", "my mom thinks i am"."""
    word, before, behind = words[n], words[max(n - 9, 0) : n], words[n + 1 : n + 3]
    if word in ("almost", "nearly"):
        past = behind and (behind[0] in _DONE or behind[0].endswith("ed"))
        return bool(past) and before[-1:] in (["i"], ["we"])
    if word in ("thinking", "considering", "dreaming", "imagine"):
        gets = [word for word in behind if word not in ("of", "about")][:1]
        return bool(gets) and gets[0].endswith("ing")
    if word in ("if", "whether"):
        return not _ASKS.isdisjoint(before[-2:])
    if word in _THINK:
        return behind[:1] == ["i"] and before[-1:] not in ([], ["i"])
    if word in ("said", "says", "like"):  # "she said i am", "is always like i am"
        return behind[:1] == ["i"] and not _SPOKE.isdisjoint(before[-1:])
    if word == "when":
        return behind[:1] == ["i"] and not _COMES.isdisjoint(behind[1:])
    if word in _PLANS:
        return not _BE.isdisjoint(before[-1:])
    if word in ("need", "wanted"):
        return not {"a", "an", "to"}.isdisjoint(behind[:1])
    if word in ("looking", "saving", "hoping", "trying"):
        return not {"for", "at", "up"}.isdisjoint(behind[:1])
    if word in ("will", "ll"):
        return not _PLANNED.isdisjoint(behind[:1])
    if word != "to":
        return word == "gonna"
    if not _TOWARDS.isdisjoint(before[-2:]):
        return not _PLANNED.isdisjoint(behind[:1])
    studies = not _STUDIES.isdisjoint(before)
    return behind[:1] == ["become"] or (studies and behind[:1] == ["be"])


def as_over(sentence: str) -> str:
    """ "i am a nurse." -> "i used to be a nurse."; "" of what is no such sentence."""
    theirs = _IS.fullmatch(sentence)
    if theirs:
        who, verb, rest = theirs.groups()
        return f"{who} used to {'be' if verb == 'is' else 'have'}{rest}"
    found = _PRESENT.fullmatch(sentence)
    if not found or found[1] in _NO_PRESENT:
        return ""
    verb, rest = found.groups()
    return f"i used to {'be' if verb == 'am' else verb}{rest}"
