"""Pair the cells and runs of two studies."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

Row = dict[str, Any]
_CELL = ("dataset", "architecture", "method")
_ROUNDS = (("recipe", "setting"), ("recipe",), ("setting",), ())  # further columns that must agree, strictest first


@dataclass(frozen=True)
class Pair:
    """Two paired cells, or one cell without a counterpart.

    Attributes:
        left, right: the runs of each side that left a record, by seed; empty for a missing cell.
    """

    left: dict[int, Row]
    right: dict[int, Row]

    @property
    def key(self) -> Row:
        """Dataset, architecture, and the study's name of the method."""
        run = next(iter((self.left or self.right).values()))
        return {name: run[name] for name in _CELL}

    @property
    def both(self) -> list[tuple[Row, Row]]:
        """The runs of the seeds that both sides have."""
        return [(self.left[seed], self.right[seed]) for seed in sorted(self.left.keys() & self.right.keys())]


def pairs(left: pd.DataFrame, right: pd.DataFrame) -> list[Pair]:
    """Pair the cells of two tables of records.

    Cells are paired by dataset, architecture and the study's name of the method. If a study has several such cells,
    recipe and setting decide. A cell with several possible counterparts is not paired.
    """
    cells = [list(_cells(table)) for table in (left, right)]
    paired: list[tuple[int, Pair]] = []
    for columns in _ROUNDS:
        groups: dict[tuple[Any, ...], list[list[int]]] = {}
        for side, side_cells in enumerate(cells):
            for position, runs in enumerate(side_cells):
                if runs:
                    run = next(iter(runs.values()))
                    key = tuple(run[name] for name in (*_CELL, *columns))
                    groups.setdefault(key, [[], []])[side].append(position)
        for first, second in groups.values():
            if len(first) == len(second) == 1:
                paired.append((first[0], Pair(cells[0][first[0]], cells[1][second[0]])))
                cells[0][first[0]], cells[1][second[0]] = {}, {}
    only_left = [(position, Pair(runs, {})) for position, runs in enumerate(cells[0]) if runs]
    only_right = [Pair({}, runs) for runs in cells[1] if runs]
    return [pair for _, pair in sorted(paired + only_left, key=lambda item: item[0])] + only_right


def _cells(table: pd.DataFrame) -> Iterator[dict[int, Row]]:
    """Yield the runs of each cell that left a record, by seed, with None for missing values."""
    recorded = table[table["status"] != "missing"].astype(object)
    for _, runs in recorded.where(recorded.notna(), None).groupby("cell", sort=False):
        yield {row["seed"]: row for row in runs.to_dict("records")}
