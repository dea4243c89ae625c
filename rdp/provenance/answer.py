"""An answer to a question of the paper checklist."""

from dataclasses import dataclass, field
from typing import Literal

YES, NO, NA, UNPROVABLE = "Yes", "No", "NA", "not provable from records"
ANSWERS = (YES, NO, NA, UNPROVABLE)
Word = Literal["Yes", "No", "NA", "not provable from records"]
_SHOWN = 5  # cells or runs that a sentence still names


@dataclass(frozen=True)
class Answer:
    """An answer to one question.

    Attributes:
        word: one of `ANSWERS`.
        because: sentences, whose numbers are the records'.
        see: the evidence: files by their paths below the study's results, sections of the page as
            ``report/index.html#…``, and ``study``, ``lock`` or ``data/NAME``, which lie elsewhere.
    """

    word: Word
    because: list[str]
    see: list[str] = field(default_factory=list)


def some(names: list[str], between: str = ", ") -> str:
    """The first few of some names, and how many more there are."""
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return between.join([*names[:_SHOWN], *more])
