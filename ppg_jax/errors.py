"""What people are told: the one kind of error that they can mend, and text to show."""

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the message is one line that says where, and what to type instead.

    Programs under ``launch/`` print the message without a traceback and exit with 2.
    """


class MissingWeights(UserError):
    """Pretrained weights that are not on this machine and cannot be brought here."""


def printable(text: str) -> str:
    """The text without control characters other than line breaks and tabs.

    What people type, or a byte-level model writes, may hold any; a terminal obeys some.
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", " ", text)


def meant(name: str, known: Iterable[str]) -> str:
    """What to add to an error: the nearest of the known names, if one is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
