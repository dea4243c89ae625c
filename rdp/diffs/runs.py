"""Compare the runs and settings of two studies: changed numbers, and changes beyond the spread over seeds."""

import json
import math
from typing import Any

import numpy as np

from rdp.diffs.pairing import Pair, Row
from rdp.stats import Estimate, mean_interval, paired_difference
from rdp.tables.collect import NUMBERS
from rdp.utils.compare import differences, relative_change
from rdp.utils.humanize import PERCENT

_SPECIFICATION = ("network", "method_name", "threads", "processes")  # beside recipe and options


def compare(pairs: list[Pair]) -> dict[str, Any]:
    """Compare runs of the same cell and seed.

    Returns:
        ``in_both`` and ``same``: numbers of runs; ``other_identity``: numbers of runs with other code, stack or data;
        ``other``: the runs with other numbers, the largest change of accuracy first; ``only_left``, ``only_right``.
    """
    both = [(pair, left, right) for pair in pairs for left, right in pair.both]
    other = [_changed(pair, left, right) for pair, left, right in both if _differ(left, right)]
    other.sort(key=lambda row: (math.inf if row["points"] is None else abs(row["points"]), row["share"]), reverse=True)
    return {
        "in_both": len(both),
        "same": len(both) - len(other),
        "other_identity": {
            name: sum(left[f"{name}_digest"] != right[f"{name}_digest"] for _, left, right in both)
            for name in ("code", "stack", "data")
        },
        "other": other,
        "only_left": _only([(pair, pair.left, pair.right) for pair in pairs]),
        "only_right": _only([(pair, pair.right, pair.left) for pair in pairs]),
    }


def _differ(left: Row, right: Row) -> bool:
    """Return whether two runs differ in the digest of their numbers; a record's digest covers its identity too."""
    return all(left[name] is None or left[name] != right[name] for name in ("digest", "numbers_digest"))


def _changed(pair: Pair, left: Row, right: Row) -> dict[str, Any]:
    changes = _changes(*({name: row[name] for name in ("status", *NUMBERS)} for row in (left, right)))
    known = None not in (left["accuracy"], right["accuracy"])
    numbers = [np.array(values, dtype=float) for name, values in changes.items() if name != "status"]
    shares = [float(relative_change(values[:1], values[1:])[0]) for values in numbers]
    return {
        **pair.key,
        "seed": left["seed"],
        "same_specification": left["spec_digest"] == right["spec_digest"],
        "accuracy": [left["accuracy"], right["accuracy"]],
        "points": PERCENT * (right["accuracy"] - left["accuracy"]) if known else None,
        "changes": changes,
        "share": max(shares, default=0.0),
    }


def _changes(left: Row, right: Row) -> dict[str, list[Any]]:
    return {difference.name: [difference.left, difference.right] for difference in differences(left, right)}


def _only(sides: list[tuple[Pair, dict[int, Row], dict[int, Row]]]) -> list[dict[str, Any]]:
    return [
        {**pair.key, "seeds": seeds, "cell": not others}
        for pair, runs, others in sides
        if (seeds := sorted(runs.keys() - others.keys()))
    ]


def specifications(pairs: list[Pair]) -> list[dict[str, Any]]:
    """Return the changed entries of the paired cells' specifications, cells with equal changes in one row."""
    rows: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        if not (pair.left and pair.right):
            continue
        changes = _changes(_specification(_first(pair.left)), _specification(_first(pair.right)))
        left, right = next(iter(pair.both), ({}, {}))
        if not changes and left.get("spec_digest") != right.get("spec_digest"):
            changes = {"something else, such as the sweep": ["", ""]}
        if changes:
            row = rows.setdefault(json.dumps(changes, sort_keys=True), {"changes": changes, "cells": []})
            row["cells"].append("/".join(pair.key.values()))
    return list(rows.values())


def _specification(row: Row) -> Row:
    return {**json.loads(row["recipe"]), **json.loads(row["options"]), **{name: row[name] for name in _SPECIFICATION}}


def settings(pairs: list[Pair]) -> list[dict[str, Any]]:
    """Return for each paired cell the mean accuracy, the difference to the baseline, and the change.

    Accuracies are in percent, changes in points. ``spread`` is the larger of the two standard deviations over seeds;
    another draw of seeds can cause a change within it.
    """
    baselines = {side: _baselines(pairs, side) for side in ("left", "right")}
    rows = []
    for pair in pairs:
        if not (pair.left and pair.right):
            continue
        row: dict[str, Any] = {**pair.key, "recipe": _first(pair.left)["setting"] or ""}
        accuracies = {side: by_seed(getattr(pair, side)) for side in baselines}
        for side, values in accuracies.items():
            baseline = baselines[side].get(_setting(_first(getattr(pair, side))))
            difference = None
            if baseline is not None and baseline is not pair:
                difference = _as_json(paired_difference(values, by_seed(getattr(baseline, side))))
            row[side] = {"accuracy": _as_json(mean_interval(list(values.values()))), "difference": difference}
        spreads = [np.std(list(values.values()), ddof=1) for values in accuracies.values() if len(values) > 1]
        row["spread"] = float(max(spreads)) if spreads else None
        left, right = (row[side]["accuracy"]["mean"] for side in ("left", "right"))
        row["change"] = None if None in (left, right) else right - left
        known = row["spread"] is not None and row["change"] is not None
        row["beyond_spread"] = abs(row["change"]) > row["spread"] if known else None
        rows.append(row)
    return rows


def by_seed(runs: dict[int, Row]) -> dict[int, float]:
    """Return the known accuracies by seed, in percent."""
    return {seed: PERCENT * row["accuracy"] for seed, row in runs.items() if row["accuracy"] is not None}


def _first(runs: dict[int, Row]) -> Row:
    return next(iter(runs.values()))


def _setting(row: Row) -> tuple[Any, ...]:
    return row["dataset"], row["architecture"], row["setting"]


def _baselines(pairs: list[Pair], side: str) -> dict[tuple[Any, ...], Pair]:
    baselines: dict[tuple[Any, ...], Pair] = {}
    for pair in pairs:
        runs = getattr(pair, side)
        if runs and _first(runs)["baseline"]:
            baselines.setdefault(_setting(_first(runs)), pair)
    return baselines


def _as_json(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate with None for NaN."""
    return {name: None if value != value else value for name, value in vars(estimate).items()}
