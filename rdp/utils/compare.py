"""Where two values, as JSON holds them, differ: their leaves, one by one."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

At = tuple[str | int, ...]  # names, and places in lists from 1
_TRUTHS = (bool, np.bool_)
_MANY = (Mapping, list, tuple, np.ndarray)


def differing(one: Any, other: Any, at: At = ()) -> Iterator[tuple[At, Any, Any]]:
    """The leaves in which two values differ, with their paths, in the order of the first.

    Lists of unequal length are told as they are, since nobody knows which of their entries belong together. A name that
    one mapping lacks is None there.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys([*one, *other]):
            yield from differing(one.get(name), other.get(name), (*at, name))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (mine, theirs) in enumerate(zip(one, other, strict=True), start=1):
            yield from differing(mine, theirs, (*at, place))
    elif not same(one, other):
        yield at, one, other


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, numbers to the last digit; what is missing is equal to what is missing.

    What is no single value, as a list in a cell of a table, is equal to nothing.
    """
    if _missing(one) or _missing(other):
        return _missing(one) and _missing(other)
    if isinstance(one, _MANY) or isinstance(other, _MANY):
        return False
    return isinstance(one, _TRUTHS) == isinstance(other, _TRUTHS) and bool(one == other)  # true is not 1


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def shown(value: Any, most: int = 80) -> str:
    """A value in a few signs: of a list how many entries it has, of a long text its beginning."""
    if isinstance(value, list):
        return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
    text = repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= most else f"{text[:most]}…"


def named(at: At) -> str:
    """A path in words: names by commas, places behind what they are in."""
    found = "".join(f" {part}" if isinstance(part, int) else f", {part}" for part in at)
    return found.lstrip(", ") or "all of it"
