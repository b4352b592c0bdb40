"""Text as people type it -> the form of the data that a model has learned from.

    utterance   "Hi! I'm a nurse, I've got 3 cats." ->
                "hi ! i am a nurse , i have got 3 cats ."
    persona     "I'm a nurse, and I love tea!" -> "i am a nurse , and i love tea."

PersonaChat (161,902 utterances, 98,056 persona sentences, 5,591 of them different) is
written with a to z, digits, . , ? ! and a rare ; _ é ñ ß ç: nothing is upper case, and
an apostrophe, hyphen, quote, bracket, colon or slash occurs nowhere. Every mark stands
alone, "! !" and ". . ." too, but for the full stop that ends every persona sentence.
Where there is a choice, forms were counted in the utterances: "it is" 4,655; "that is"
11,136, "thats" 0; "do not" 6,554, "dont" 0; "cannot" 895, "cant" 448, "can not" 320;
"lets" 193, "let us" 50; "moms" 121, "mom s" 2; "part time" 165; "yall" 13, "aint" 12;
"ma am" 7. The embedded corpus has the same form, without contractions.

In one thing the form is left: numbers, times, web and e-mail addresses (of sites those
that end in com, org, net, edu or gov) and single letters with full stops stay whole,
where PersonaChat tears them ("4 . 5" in 27 utterances, "50 , 000" in 63, "u . s"
in 23), for a pretrained model knows them so, and two words are not a number.
"""

import re
import unicodedata
from collections.abc import Sequence

from ppg_jax.data.personachat import expand_contractions

FORMS = ("personachat", "as_typed")

# What is one character to a reader and several to Unicode.
_SAME = str.maketrans(
    dict.fromkeys("‘’‚‛ʼʹ′´`＇", "'")
    | dict.fromkeys("“”„‟«»″", '"')
    | dict.fromkeys("‐‑−", "-")
    | dict.fromkeys("‒–—―", "--")
    | dict.fromkeys("\u00ad\u200b\u2060\ufeff", "")  # they have no width
    | {chr(n): " " for n in (*range(32), *range(127, 160))}
)
_SAME |= str.maketrans("\u2044", "/")  # of a fraction in one character
# Behind a digit, in one character: a fraction (2\u00bd), a power (10\u00b2).
_HALVES = re.compile(
    r"(?<=\d)(?=[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2150-\u215e])"
)
_RANGE = re.compile(r"(?<=\d)[\u2012\u2013](?=\d)")  # 9 to 5
# Where PersonaChat never has the form without the apostrophe, it can mean one thing.
_BARE = {
    "im": "i am",
    "ive": "i have",
    "thats": "that is",
    "theres": "there is",
    "hes": "he is",
    "shes": "she is",
    "theyre": "they are",
    "theyve": "they have",
    "dont": "do not",
    "wont": "will not",
}
_VERBS = ("did", "does", "is", "are", "was", "were", "could", "would", "should")
_BARE |= {f"{verb}nt": f"{verb} not" for verb in (*_VERBS, "have", "has")}
_OTHER = {"y'all": "yall", "ain't": "aint"}  # than `expand_contractions` has it
# Behind a noun, where it is no owner's: "my brother's a pilot", not "my brother's car".
_IS = re.compile(r"(?<=\w)(?<!\blet)'s(?= (?:an?|the|not|very|always|also|never)\b)")

# What a generator tears: "i m", "he s", "don t".
_TORN = re.compile(
    r"\b(?:(i) (m)|(i|you|we|they) (re|ve|ll|d)|(he|she|it|that|there) (s|ll|d)"
    r"|((?:do|does|did|ca|wo|is|are|was|were|have|has|had|could|would|should)n) (t))\b",
    re.IGNORECASE,
)
# "a accountant", not "a one man band", nor "a european", nor "vitamin a and d".
_AN = re.compile(
    r"\ba(?= (?!(?:one|once|i|in|it|at|am|ok|and|are|as|if|is|of|on|or)\b|eu|ew)"
    r"[aeio]\w)"
)

_OUTSIDE = r"\s\"'()\[\]{}<>|\\*~^"  # of addresses: they end there
_PIECES = re.compile(
    rf"""(?P<whole>
        (?<!\w)(?:https?://|www\.)[^{_OUTSIDE}]*[^{_OUTSIDE}.,!?;:]
      | (?<![\w.+@-])\w[\w.+-]*@\w+(?:[.-]\w+)+(?![\w@])  # an e-mail address
      | (?<![\w.-])\w[\w-]*(?:\.[\w-]+)*\.(?:com|org|net|edu|gov)\b
        (?:/[^{_OUTSIDE}]*[^{_OUTSIDE}.,!?;:])?
      | (?<!\w)(?:[^\W\d_]\.){{2,}}  # e.g., u.s.
      | (?<![\w.-])-\d+(?:[.,:]\d+)*
      | (?<![\w.])\.\d+(?![\w.])  # .5
      | (?<![\w/])\d+/\d+(?![\w/])  # 1/2, no date
      | (?<!\d)\d+(?:[.,:]\d+)+  # 3.5, 2,000, 10:30
    )
    | (?P<bare>\b(?:{"|".join(_BARE)})\b)
    | (?P<face>(?<!\S)(?:[:;][o'-]?[()\[\]dp3/\\|*]+ | </?3+)(?!\w))
    | (?P<pause>(?<=\w)(?:\ ?--+\ ?|\ -\ )(?=\w) | (?<=\w):(?=\ ))
    | (?P<mark>[.,!?;])
    | (?P<and>&)
    | (?P<none>[-:/"'()\[\]{{}}<>|\\*~^])""",
    re.VERBOSE,
)


def normalized(text: str, form: str) -> str:
    """An utterance in one of `FORMS`; "as_typed" leaves it.

    What is in PersonaChat's form stays as it is, and nothing but spaces becomes empty:
    of what has no word and no mark, ":)", the lower case is left.
    """
    if form == "as_typed":
        return text
    # Once more until nothing changes: what is left of "x (@u.s.)" reads otherwise.
    while (written := _written(text)) != text:
        text = written
    return text


def normalized_persona(persona: Sequence[str], form: str) -> tuple[str, ...]:
    """Persona sentences in one of `FORMS`; as many as there were."""
    if form == "as_typed":
        return tuple(persona)
    return tuple(map(_as_profile, persona))


def normalized_sentence(sentence: str, form: str) -> str:
    """A sentence that a generator wrote in one of `FORMS`: "i m a Actor ." -> "i am an
    actor."."""
    if form == "as_typed":
        return sentence
    whole = _TORN.sub(lambda found: "'".join(filter(None, found.groups())), sentence)
    return _AN.sub("an", _as_profile(whole))


def _as_profile(text: str) -> str:
    """An utterance as a profile has it: no space before a full stop, "i sing. i run."

    What was called out at the end is stated; what was asked stays a question.
    """
    text = normalized(text, "personachat")
    said = text.rstrip(" .!?")
    end, asks, _ = text[len(said) :].partition("?")
    text = said + end + asks if asks else text
    text = re.sub(r"(?<=[^\s.,;!?])(?: [.!])* !$", " .", text)
    return re.sub(r"(?<=[^\s.,;?])(?: \.)+(?= |$)", ".", text)


def _written(text: str) -> str:
    plain = expanded = _plain(text)
    if "'" in plain:
        for typed, same in _OTHER.items():
            expanded = re.sub(rf"\b{typed}\b", same, expanded)
        expanded = expand_contractions(_IS.sub(" is", expanded))
    return " ".join(_PIECES.sub(_piece, expanded).split()) or plain


def _plain(text: str) -> str:
    """Lower case, one space between words, one character for those that look alike."""
    # Lower case can undo what was composed, and composing make a quote or a space.
    text = _RANGE.sub("-", _HALVES.sub(" ", text)).translate(_SAME)
    composed = unicodedata.normalize("NFKC", text)
    lower = unicodedata.normalize("NFKC", composed.lower())
    return " ".join(lower.translate(_SAME).split())


def _piece(found: re.Match) -> str:
    text = found[0]
    match found.lastgroup:
        case "whole":
            return text
        case "bare":
            return _BARE[text]
        case "mark":
            return f" {text} "
        case "pause":
            return " , "
        case "and":
            return " and "
    return " "
