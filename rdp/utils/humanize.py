"""Numbers, sizes and durations as text."""

from collections.abc import Iterable
from typing import Any

PERCENT = 100.0  # factor from a share to percent


def count(number: int, noun: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(words: Iterable[Any], last: str = "and") -> str:
    """``a, b and c``."""
    *others, end = map(str, words)
    return f"{', '.join(others)} {last} {end}" if others else end


def size(number: float) -> str:
    """A number of bytes with two or three digits: ``12 B``, ``3.4 kB``, ``56 MB``, ``170 MB``."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while number >= 999.5 and len(units) > 1:
        number, units = number / 1000, units[1:]
    digits = 1 if units[0] != "B" and number < 9.95 else 0
    return f"{number:.{digits}f} {units[0]}"


def duration(seconds: float) -> str:
    """A duration with about two digits: ``40 s``, ``12 min``, ``3 h 20 min``, ``5 days``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{hours / 24:.0f} days"
