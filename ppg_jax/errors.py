"""What people are told: the one kind of error that they can mend, and text to show."""

import re


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
