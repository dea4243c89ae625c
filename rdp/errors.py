"""Errors that are not bugs: bad input that a user can mend, and an orderly stop."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, told in one line that says what is wrong and where.

    The command line prints the message without a traceback and exits with status 2.
    """


class Terminated(Exception):
    """The job was asked to stop (SIGTERM), and has written its checkpoint."""


def choices(name: object, valid: Iterable[str]) -> str:
    """Say what would have been valid in place of ``name``, the near miss first."""
    valid = sorted(valid)
    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}valid: {', '.join(valid) or 'none'}"
