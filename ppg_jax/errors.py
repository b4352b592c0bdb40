"""The one kind of error that a user can mend, told from the bugs that we must mend."""


class UserError(Exception):
    """Bad input: the message is one line that says where, and what to type instead.

    Programs under ``launch/`` print the message without a traceback and exit with 2.
    """
