"""Which cells and runs of two studies belong together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

Row = dict[str, Any]
_CELL = ("dataset", "architecture", "method")
_ROUNDS = (("recipe", "setting"), ("recipe",), ("setting",), ())  # what else must agree, the strictest first


@dataclass(frozen=True)
class Pair:
    """Two cells that belong together, or one that has no other.

    Attributes:
        left, right: the runs of each that left a record, by seed; empty for a cell that is not there.
    """

    left: dict[int, Row]
    right: dict[int, Row]

    @property
    def key(self) -> Row:
        """Dataset, architecture, and the method as it is called."""
        one = next(iter((self.left or self.right).values()))
        return {name: one[name] for name in _CELL}

    @property
    def both(self) -> list[tuple[Row, Row]]:
        """The runs of seeds that both have."""
        return [(self.left[seed], self.right[seed]) for seed in sorted(self.left.keys() & self.right.keys())]


def pairs(left: pd.DataFrame, right: pd.DataFrame) -> list[Pair]:
    """The cells of two tables of records, those that belong together as one.

    By dataset, architecture and the method as the study calls it; where a study has several such cells, by their
    recipes, and then by what tells their recipes apart. A cell that could belong to several stays alone.
    """
    cells = [list(_cells(table)) for table in (left, right)]
    found: list[tuple[int, Pair]] = []
    for more in _ROUNDS:
        groups: dict[tuple[Any, ...], list[list[int]]] = {}
        for side, mine in enumerate(cells):
            for place, runs in enumerate(mine):
                if runs:
                    one = next(iter(runs.values()))
                    key = tuple(one.get(name) for name in (*_CELL, *more))
                    groups.setdefault(key, [[], []])[side].append(place)
        for first, second in groups.values():
            if len(first) == len(second) == 1:
                found.append((first[0], Pair(cells[0][first[0]], cells[1][second[0]])))
                cells[0][first[0]], cells[1][second[0]] = {}, {}
    alone = [(place, Pair(runs, {})) for place, runs in enumerate(cells[0]) if runs]
    last = [Pair({}, runs) for runs in cells[1] if runs]
    return [pair for _, pair in sorted(found + alone, key=lambda item: item[0])] + last


def _cells(table: pd.DataFrame) -> Iterator[dict[int, Row]]:
    """The runs of each cell that left a record, by seed. What is not known is None."""
    there = table[table["status"] != "missing"].astype(object)
    rows = there.where(there.notna(), None)
    for _, runs in rows.groupby("cell", sort=False):
        yield {row["seed"]: row for row in runs.to_dict("records")}
