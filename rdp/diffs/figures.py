"""Figures of two studies, by the data behind them: the same, changed and where most, or in one alone.

Time that was measured is never the same twice, and is told apart.
"""

from typing import Any

import numpy as np
import pandas as pd

from rdp.report.contents import TIMED

_ROUNDING = 1e-9  # of the largest number in a column: what the order of a sum may change


def compare(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Each figure of either.

    ``status`` is ``same``, ``rounding``, ``timing`` (no other numbers but measured time changed), ``changed``,
    ``only left`` or ``only right``.
    """
    rows = []
    for name in dict.fromkeys([*left, *right]):
        if name not in left or name not in right:
            rows.append({"figure": name, "status": "only left" if name in left else "only right"})
        else:
            rows.append({"figure": name} | _without_time(name, left[name], right[name]))
    return rows


def _without_time(name: str, left: pd.DataFrame, right: pd.DataFrame) -> dict[str, Any]:
    """A figure by what is not measured time, or where that is the same, by all of it."""
    found = _compare(left, right)
    if found["status"] != "changed" or name not in TIMED:
        return found
    timed = TIMED[name]
    if timed is None:
        return found | {"status": "timing"}
    others = _compare(*(table.drop(columns=[*timed], errors="ignore") for table in (left, right)))
    return others if others["status"] == "changed" else found | {"status": "timing"}


def _compare(left: pd.DataFrame, right: pd.DataFrame) -> dict[str, Any]:
    columns = [name for name in left if name in right]
    lost = {"columns_left": [c for c in left if c not in right], "columns_right": [c for c in right if c not in left]}
    values = [name for name in columns if _numeric(left[name]) and _numeric(right[name])]
    keys = [name for name in columns if name not in values]
    if not _equal_keys(left, right, keys):
        # Whole numbers tell rows apart too, where rows came or went: seeds, epochs, layers.
        whole = [name for name in values if _whole(left[name]) and _whole(right[name])]
        keys, values = [*keys, *whole], [name for name in values if name not in whole]
    first, second, only = _paired(left, right, keys)
    found = {"rows_left": only[0], "rows_right": only[1]}
    largest = _largest(first, second, keys, values)
    changed = any(lost.values()) or any(only) or (largest is not None and largest["share"] > _ROUNDING)
    status = "changed" if changed else "same" if largest is None else "rounding"
    return {"status": status} | lost | found | {"largest": largest}


def _numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _whole(column: pd.Series) -> bool:
    return pd.api.types.is_integer_dtype(column)


def _equal_keys(left: pd.DataFrame, right: pd.DataFrame, keys: list[str]) -> bool:
    return len(left) == len(right) and _text(left, keys).equals(_text(right, keys))


def _text(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return table[keys].astype(object).where(table[keys].notna(), "").astype(str).reset_index(drop=True)


def _paired(
    left: pd.DataFrame, right: pd.DataFrame, keys: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[int, int]]:
    """The rows that both have, in one order, and how many each has alone; rows of equal keys by their order."""
    sides = []
    for table in (left, right):
        names = _text(table, keys)
        count = names.groupby(keys, sort=False).cumcount() if keys else pd.Series(range(len(table)), dtype="int64")
        index = pd.MultiIndex.from_frame(names.assign(**{"": count.to_numpy()}))
        sides.append(table.set_axis(index))
    first, second = sides
    both = first.index[first.index.isin(second.index)]
    return first.loc[both], second.loc[both], (len(first) - len(both), len(second) - len(both))


def _largest(first: pd.DataFrame, second: pd.DataFrame, keys: list[str], values: list[str]) -> dict[str, Any] | None:
    """The largest change, as a share of the largest number in its column; None where nothing changed."""
    most: dict[str, Any] | None = None
    for name in values:
        a, b = (side[name].to_numpy(dtype=float) for side in (first, second))
        known = np.abs(np.concatenate([a, b]))
        scale = np.max(known[np.isfinite(known)], initial=0.0) or 1.0
        with np.errstate(invalid="ignore"):  # of two infinities
            share = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(b - a) / scale)
        share = np.where(np.isfinite(share), share, 1.0)  # a number that came or went
        if share.size and share.max() > (most["share"] if most else 0.0):
            place = int(share.argmax())
            where = {key: first.iloc[place][key] for key in keys}
            most = {
                "column": name,
                "where": {key: str(value) for key, value in where.items() if value == value and value != ""},
                "left": _number(a[place]),
                "right": _number(b[place]),
                "share": float(share[place]),
            }
    return most


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
