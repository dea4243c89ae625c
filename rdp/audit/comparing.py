"""Two files that should be the same: where they first differ, and how."""

import difflib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COLLECTOR = "collector"  # the column of the tables of runs that tells by which version of this package they are
_MOST = 5  # differences of one file that are told one by one
_TRUTHS = (bool, np.bool_)
_CONTEXT = 40  # signs on either side of what differs in a line


def compare(there: Path, again: Path) -> list[str]:
    """What differs between a file and the one made in its place, a line each; nothing where bytes are equal.

    Of a sealed file the seal must have been verified.
    """
    kind, both = there.suffix, (there, again)
    try:
        if there.read_bytes() == again.read_bytes():
            return []
        if kind == ".csv":
            found = _tables(*map(_read_csv, both))
        elif kind == ".json":
            found = _values(*(json.loads(path.read_text(encoding="utf-8")) for path in both), "")
            found = [line for line in found if not line.startswith("seal: ")] or ["its seal is another"]
        elif kind in {".pdf", ".png"}:
            found = ["not what is made of the same numbers"]
        else:
            found = _texts(*(path.read_text(encoding="utf-8") for path in both))
    except (ValueError, OSError, RecursionError) as error:
        return [f"cannot be read: {error}"]
    return _most(found) or ["other bytes, and the same content: not written by this checkout"]


def compare_tables(there: pd.DataFrame, again: pd.DataFrame) -> list[str]:
    """The values in which two tables of runs differ, but for who collected them: that is no number."""
    return _most(_tables(*(table.drop(columns=COLLECTOR, errors="ignore") for table in (there, again))))


def values(there: Any, again: Any) -> list[str]:
    """The values in which two contents of a JSON file differ."""
    return _most(_values(there, again, ""))


def _most(found: list[str]) -> list[str]:
    return found[:_MOST] + ([f"and {len(found) - _MOST} more differences"] if len(found) > _MOST else [])


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)  # as they are written, to the last digit


def _tables(there: pd.DataFrame, again: pd.DataFrame) -> list[str]:
    if list(there) != list(again):
        found = sorted(set(there) ^ set(again))
        return [f"other columns: {', '.join(found)}" if found else "its columns stand in another order"]
    if len(there) != len(again):
        return [f"{len(there)} rows; the records give {len(again)}"]
    found = []
    for column in there:
        first, second = there[column].tolist(), again[column].tolist()
        for place, (one, other) in enumerate(zip(first, second, strict=True)):
            if not same(one, other):
                row = f"{there['run'].iloc[place]}" if "run" in there else f"row {place + 1}"
                found.append(f"{row}, {column}: {_told(one)}; the records give {_told(other)}")
    return found


def _values(there: Any, again: Any, where: str) -> list[str]:
    """The leaves in which two JSON values differ. Claims, which are a list, are called by their names."""
    if isinstance(there, dict) and isinstance(again, dict):
        names = list(dict.fromkeys([*there, *again]))
        return [line for n in names for line in _values(there.get(n), again.get(n), f"{where}, {n}" if where else n)]
    if isinstance(there, list) and isinstance(again, list) and len(there) == len(again):
        return [
            line
            for place, (one, other) in enumerate(zip(there, again, strict=True), start=1)
            for line in _values(one, other, _entry(where, one, place))
        ]
    if isinstance(there, list) and isinstance(again, list):
        return [f"{where}: {len(there)} entries; the records give {len(again)}"]
    return [] if same(there, again) else [f"{where}: {_told(there)}; the records give {_told(again)}"]


def _entry(where: str, value: Any, place: int) -> str:
    if where == "claims" and isinstance(value, dict):
        return str(value.get("name"))
    return f"{where} {place}"


def _texts(there: str, again: str) -> list[str]:
    """The lines in which two texts differ, each cut to where it does."""
    first, second = there.splitlines(), again.splitlines()
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    return [_line(first[a:b], second[c:d], a + 1) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"]


def _line(there: list[str], again: list[str], number: int) -> str:
    one, other = " ".join(there), " ".join(again)
    start = next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    here = slice(max(0, start - _CONTEXT), start + _CONTEXT)
    return f"line {number}: …{one[here].strip()}…; the records give …{other[here].strip()}…"


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal to the last bit; what is missing is equal to what is missing.

    What is no single value, as a list in a cell of a table, is equal to nothing.
    """
    if _missing(one) or _missing(other):
        return _missing(one) and _missing(other)
    alike = isinstance(one, _TRUTHS) == isinstance(other, _TRUTHS)  # true is not 1
    return np.ndim(one) == np.ndim(other) == 0 and alike and bool(one == other)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _told(value: Any) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 2 * _CONTEXT else f"{text[: 2 * _CONTEXT]}…"
