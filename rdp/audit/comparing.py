"""Two files that should be the same: where they first differ, and how."""

import difflib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from rdp.utils.compare import differing, named, same, shown

COLLECTOR = "collector"  # the column of the tables of runs that tells by which version of this package they are
_MOST = 5  # differences of one file that are told one by one
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
            found = _values(*(json.loads(path.read_text(encoding="utf-8")) for path in both))
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
    return _most(_values(there, again))


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
                found.append(f"{row}, {column}: {_apart(one, other)}")
    return found


def _values(there: Any, again: Any) -> list[str]:
    """The leaves in which two JSON values differ. Claims, which are a list, are called by their names."""
    found = []
    for at, one, other in differing(there, again):
        if at[:1] == ("claims",) and len(at) > 1 and isinstance(claim := there["claims"][at[1] - 1], dict):
            at = (str(claim.get("name")), *at[2:])
        found.append(f"{named(at)}: {_apart(one, other)}")
    return found


def _apart(one: Any, other: Any) -> str:
    return f"{shown(one)}; the records give {shown(other)}"


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
