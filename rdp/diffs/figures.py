"""Compare the figures of two studies by the data behind them; measured times are reported separately."""

from typing import Any

import numpy as np
import pandas as pd

from rdp.report.contents import TIMED
from rdp.utils.compare import relative_change

_ROUNDING = 1e-9  # share of a column's largest number that the order of a sum may change


def compare(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return one row per figure.

    ``status`` is ``same``, ``rounding``, ``timing`` (only measured times changed), ``changed``, ``only left`` or
    ``only right``.
    """
    rows = []
    for name in dict.fromkeys([*left, *right]):
        if name not in left or name not in right:
            rows.append({"figure": name, "status": "only left" if name in left else "only right"})
        else:
            rows.append({"figure": name} | _compare_figure(name, left[name], right[name]))
    return rows


def _compare_figure(name: str, left: pd.DataFrame, right: pd.DataFrame) -> dict[str, Any]:
    """Compare a figure without its measured times, or with them if nothing else changed."""
    row = _compare_tables(left, right)
    if row["status"] != "changed" or name not in TIMED:
        return row
    timed = TIMED[name]
    if timed is not None:
        others = _compare_tables(*(table.drop(columns=[*timed], errors="ignore") for table in (left, right)))
        if others["status"] == "changed":
            return others
    return row | {"status": "timing"}


def _compare_tables(left: pd.DataFrame, right: pd.DataFrame) -> dict[str, Any]:
    shared = [name for name in left if name in right]
    lost = {"columns_left": [c for c in left if c not in right], "columns_right": [c for c in right if c not in left]}
    values = [name for name in shared if _is_numeric(left[name]) and _is_numeric(right[name])]
    keys = [name for name in shared if name not in values]
    if len(left) != len(right) or not _as_text(left, keys).equals(_as_text(right, keys)):
        # Integers such as seeds, epochs and layers identify rows too, where rows were added or removed.
        integers = [name for name in values if all(pd.api.types.is_integer_dtype(side[name]) for side in (left, right))]
        keys, values = [*keys, *integers], [name for name in values if name not in integers]
    first, second = (_index_rows(table, keys) for table in (left, right))
    both = first.index[first.index.isin(second.index)]
    only = (len(first) - len(both), len(second) - len(both))
    largest = _largest_change(first.loc[both], second.loc[both], keys, values)
    changed = any(lost.values()) or any(only) or (largest is not None and largest["share"] > _ROUNDING)
    status = "changed" if changed else "same" if largest is None else "rounding"
    return {"status": status, **lost, "rows_left": only[0], "rows_right": only[1], "largest": largest}


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _as_text(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return table[keys].astype(object).where(table[keys].notna(), "").astype(str).reset_index(drop=True)


def _index_rows(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Index a table by its keys, and rows of equal keys by their order."""
    names = _as_text(table, keys)
    repeat = names.groupby(keys, sort=False).cumcount() if keys else pd.Series(range(len(table)), dtype="int64")
    return table.set_axis(pd.MultiIndex.from_frame(names.assign(**{"": repeat.to_numpy()})))


def _largest_change(
    first: pd.DataFrame, second: pd.DataFrame, keys: list[str], values: list[str]
) -> dict[str, Any] | None:
    """Return the largest change as a share of its column's largest number, with its row; None without any change."""
    largest: dict[str, Any] | None = None
    for name in values:
        left, right = (side[name].to_numpy(dtype=float) for side in (first, second))
        share = relative_change(left, right)
        if share.size and share.max() > (largest["share"] if largest else 0.0):
            row = int(share.argmax())
            where = {key: first.iloc[row][key] for key in keys}
            largest = {
                "column": name,
                "where": {key: str(value) for key, value in where.items() if pd.notna(value) and value != ""},
                "left": float(left[row]) if np.isfinite(left[row]) else None,
                "right": float(right[row]) if np.isfinite(right[row]) else None,
                "share": float(share[row]),
            }
    return largest
