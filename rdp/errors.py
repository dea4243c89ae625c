"""Errors that are not bugs: bad input that a user can mend, and an orderly stop."""

import difflib
from collections.abc import Iterable

_LONGEST = 2000  # signs of a message


class UserError(Exception):
    """Bad input, told in one line that says what is wrong and where.

    The command line prints the message without a traceback and exits with status 2. What it quotes came from outside:
    signs that no terminal shows as they are, be it the end of a line or the turn of a writing direction, are told by
    their numbers, and of a message beyond all reading the middle is left out.
    """

    def __init__(self, message: str) -> None:
        told = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message)
        super().__init__(told if len(told) <= _LONGEST else f"{told[: _LONGEST // 2]} … {told[-_LONGEST // 2 :]}")


class Terminated(Exception):
    """The job was asked to stop (SIGTERM), and has written its checkpoint."""


def choices(name: object, valid: Iterable[str]) -> str:
    """Say what would have been valid in place of ``name``, the near miss first."""
    valid = sorted(valid)
    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}valid: {', '.join(valid) or 'none'}"
