"""Compare values, tables and files, and describe their differences."""

import difflib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_LIMIT = 5  # differences of one file that are listed
_CONTEXT = 40  # characters on either side of the first difference of a line
_LONGEST = 80  # characters of a value
_BOOLEANS = (bool, np.bool_)
_CONTAINERS = (Mapping, list, tuple, np.ndarray)


@dataclass(frozen=True)
class Difference:
    """Two values that should be equal and are not."""

    path: tuple[str | int, ...]  # keys and 1-based list positions that lead to the values
    left: Any  # None for a key that this side lacks
    right: Any

    @property
    def name(self) -> str:
        """The path as text: ``parts 1, bound``."""
        text = "".join(f" {part}" if isinstance(part, int) else f", {part}" for part in self.path)
        return text.lstrip(", ") or "value"

    def describe(self, source: str) -> str:
        """Describe the difference: ``accuracy: 0.5; the records give 0.6``, for the source ``the records give``."""
        return f"{self.name}: {shorten(self.left)}; {source} {shorten(self.right)}"


def differences(
    left: Any, right: Any, *, ignore: Collection[str] = (), path: tuple[str | int, ...] = ()
) -> Iterator[Difference]:
    """Yield the leaves in which two JSON values differ, in the order of the left value.

    Keys in ``ignore`` are skipped at every level. Lists of unequal length are one difference. An entry of a list is
    named by its ``name`` where it has one.
    """
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in dict.fromkeys([*left, *right]):
            if key not in ignore:
                yield from differences(left.get(key), right.get(key), ignore=ignore, path=(*path, key))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for position, (one, other) in enumerate(zip(left, right, strict=True), start=1):
            name = one.get("name") if isinstance(one, Mapping) else None
            entry = name if isinstance(name, str) else position
            yield from differences(one, other, ignore=ignore, path=(*path, entry))
    elif not equal(left, right):
        yield Difference(path, left, right)


def equal(left: Any, right: Any, tolerance: float = 0.0) -> bool:
    """Return whether two single values are equal, numbers to the last digit or within an absolute tolerance.

    None and NaN equal each other. True does not equal 1. A container, such as a list in a cell of a table, equals
    nothing.
    """
    if _is_missing(left) or _is_missing(right):
        return _is_missing(left) and _is_missing(right)
    if isinstance(left, _CONTAINERS) or isinstance(right, _CONTAINERS):
        return False
    if isinstance(left, _BOOLEANS) != isinstance(right, _BOOLEANS):
        return False
    return bool(left == right) or (tolerance > 0 and abs(left - right) <= tolerance)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def relative_change(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the change of each number as a share of the largest finite magnitude in either array.

    Args:
        left, right: float arrays of shape (n,); NaN is a missing value.

    Returns:
        Float array of shape (n,): 0 for equal or both missing, 1 where only one of the two is finite.
    """
    magnitudes = np.abs(np.concatenate([left, right]))
    scale = np.max(magnitudes[np.isfinite(magnitudes)], initial=0.0) or 1.0
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        share = np.where((left == right) | (np.isnan(left) & np.isnan(right)), 0.0, np.abs(right - left) / scale)
    return np.where(np.isfinite(share), share, 1.0)


def table_differences(
    left: "pd.DataFrame", right: "pd.DataFrame", *, ignore: Collection[str] = ()
) -> Iterator[Difference]:
    """Yield the cells in which two tables differ, column by column; rows are named by their run or position.

    Unequal columns, or unequal numbers of rows, are one difference.
    """
    left, right = (table.drop(columns=[*ignore], errors="ignore") for table in (left, right))
    if set(left) != set(right):
        only = [
            ", ".join(map(str, a.columns.difference(b.columns))) or "none" for a, b in ((left, right), (right, left))
        ]
        yield Difference(("further columns",), *only)
    elif list(left) != list(right):
        yield Difference(("order of columns",), ", ".join(left), ", ".join(right))
    elif len(left) != len(right):
        yield Difference(("rows",), len(left), len(right))
    else:
        rows = left["run"].tolist() if "run" in left else [f"row {number}" for number in range(1, len(left) + 1)]
        for column in left:
            for row, one, other in zip(rows, left[column].tolist(), right[column].tolist(), strict=True):
                if not equal(one, other):
                    yield Difference((str(row), str(column)), one, other)


def file_differences(left: Path, right: Path, source: str) -> list[str]:
    """Describe the differences between two files, one line each; empty if their bytes are equal.

    The seals of sealed files must be verified before.

    Args:
        left, right: the files: JSON, CSV, PDF, PNG, or text.
        source: what gives the right file, as in `Difference.describe`.
    """
    try:
        if left.read_bytes() == right.read_bytes():
            return []
        if left.suffix in {".pdf", ".png"}:
            return [f"{source} other bytes"]
        lines = describe(_file_differences(left, right), source)
    except (ValueError, OSError, RecursionError) as error:
        return [f"cannot be read: {error}"]
    return lines or ["equal content, but other bytes: not written by this checkout"]


def describe(changes: Iterator[Difference], source: str) -> list[str]:
    """Describe the first few differences, one line each, and the number of the others."""
    lines = [difference.describe(source) for difference in changes]
    return lines[:_LIMIT] + ([f"and {len(lines) - _LIMIT} more differences"] if len(lines) > _LIMIT else [])


def _file_differences(left: Path, right: Path) -> Iterator[Difference]:
    if left.suffix == ".csv":
        import pandas as pd

        # As text, so that numbers are compared to the last digit written.
        yield from table_differences(*(pd.read_csv(path, dtype=str, keep_default_na=False) for path in (left, right)))
        return
    texts = [path.read_text(encoding="utf-8") for path in (left, right)]
    if left.suffix == ".json":
        # The seal follows from the other keys, so it is reported only where it differs by itself.
        values = [json.loads(text) for text in texts]
        yield from list(differences(*values, ignore={"seal"})) or differences(*values)
        return
    first, second = (text.splitlines() for text in texts)
    for tag, a, b, c, d in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if tag != "equal":
            yield _line_difference(a + 1, " ".join(first[a:b]), " ".join(second[c:d]))


def _line_difference(number: int, left: str, right: str) -> Difference:
    shorter = min(len(left), len(right))
    start = next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), shorter)
    window = slice(max(0, start - _CONTEXT), start + _CONTEXT)
    return Difference((f"line {number}",), *(f"…{text[window].strip()}…" for text in (left, right)))


def shorten(value: Any) -> str:
    """Return a value as short text: the length of a list, the start of a long text, all digits of a number."""
    if isinstance(value, list):
        return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
    text = repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
