"""The data of the page's runs explorer: every run of a study, compact enough to embed."""

import json
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from rdp.store.record import columns
from rdp.study import Cell, Plan

CURVES = {"train_loss": "training loss", "validation_accuracy": "validation accuracy"}
_FIELDS = {name: column for name, column, _ in columns() if column.title}
_NAMES = ("cell", "status", "reason", "commit", "device", "data_digest", "code_digest", "stack_digest")
_DIGITS = 6
_CURVE_DIGITS = 4
_POINTS = 500_000  # of all curves together, about 4 MB of the page
_LONGEST = 200  # points of one curve, more than its drawing can resolve
_PREFIX = 12  # characters of a digest


def content(plan: Plan, table: pd.DataFrame, history: pd.DataFrame) -> dict[str, Any]:
    """What the explorer shows, by columns: one entry a run in each, in the order of ``table``.

    A name that many runs share is written once, under ``names``, and runs hold its place there. What is not known is
    null. A curve is a list of numbers, and its epochs are one of ``epochs``.
    """
    names: dict[str, list[str]] = {}
    runs: dict[str, list[Any]] = {name: numbers(table[name], _DIGITS) for name in ("seed", "accuracy", *_FIELDS)}
    for name in _NAMES:
        values = table[name].str[:_PREFIX] if name.endswith("_digest") else table[name]
        runs[name], names[name] = _encoded(_text(values))
    for name in ("digest", "spec_digest", "started"):
        width = _PREFIX if name.endswith("digest") else None  # times are whole
        runs[name] = [value and value[:width] for value in _text(table[name])]
    epochs, curves_of_runs = curves(table["run"], history)
    cells = {cell.id: cell for cell in plan.cells}
    return {
        "study": plan.name,
        "names": names,
        "cells": [_shared(cells[cell_id]) for cell_id in names["cell"]],
        "runs": runs,
        "epochs": epochs,
        "curves": curves_of_runs,
        "measures": CURVES,
        "fields": [[name, column.title, column.notation] for name, column in _FIELDS.items()],
    }


def embedded(value: Any) -> Markup:
    """JSON for a script element, in which no text can close the element or open a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return Markup(text.replace("<", r"\u003c"))


def numbers(values: Iterable[float | None], digits: int) -> list[float | None]:
    """Numbers rounded to significant digits, whole numbers unrounded; None for a number that is not finite."""
    return [_number(value, digits) for value in values]


def _number(value: float | None, digits: int) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.{digits}g}")


def _text(values: pd.Series) -> list[str | None]:
    return [value if isinstance(value, str) else None for value in values]


def _encoded(values: Iterable[Hashable]) -> tuple[list[int | None], list[Any]]:
    """Values as indices into the list of distinct values, in order of appearance; None for None."""
    places: dict[Hashable, int] = {}
    codes = [None if value is None else places.setdefault(value, len(places)) for value in values]
    return codes, list(places)


def _shared(cell: Cell) -> dict[str, Any]:
    """What the runs of a cell share: architecture, dataset, method, and the specification without the seed."""
    spec = cell.specs[0].model_dump(mode="json", exclude={"seed"})
    return {"architecture": cell.architecture, "dataset": cell.dataset, "method": cell.label, "spec": spec}


def _points(runs: int) -> int:
    """The most points per curve that keep the page small."""
    return min(_LONGEST, max(2, _POINTS // (len(CURVES) * max(runs, 1))))


def curves(names: Sequence[str] | pd.Series, history: pd.DataFrame) -> tuple[list[Any], dict[str, list[list[Any]]]]:
    """Lists of epochs, and by measure the curve of each run: the index of its list of epochs, and its values."""
    place = {name: i for i, name in enumerate(names)}
    most = _points(len(names))
    known: dict[tuple[int, ...], int] = {}
    drawn: dict[str, list[list[Any]]] = {}
    rows = history[history["run"].isin(place)].sort_values("epoch", kind="stable")
    for measure in CURVES:
        finite = rows[np.isfinite(rows[measure].astype(float))]
        drawn[measure] = [[] for _ in place]
        for name, of_run in finite.groupby("run", sort=False).indices.items():
            thinned = of_run[_spread(len(of_run), most)]
            epochs = tuple(finite["epoch"].to_numpy()[thinned].tolist())
            values = finite[measure].to_numpy()[thinned]
            drawn[measure][place[name]] = [
                known.setdefault(epochs, len(known)),
                numbers(values.tolist(), _CURVE_DIGITS),
            ]
    return [list(epochs) for epochs in known], drawn


def _spread(length: int, most: int) -> np.ndarray:
    """At most ``most`` evenly spaced indices of a list, including the first and the last."""
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(int))
