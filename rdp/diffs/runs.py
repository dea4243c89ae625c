"""Runs and settings of two studies: which numbers changed, by how much, and whether seeds alone vary as much."""

import json
import math
from typing import Any

import numpy as np

from rdp.diffs.pairing import Pair, Row
from rdp.stats import Estimate, mean_interval, paired_difference
from rdp.tables.collect import NUMBERS
from rdp.utils.humanize import PERCENT

_SPECIFIED = ("network", "method_name", "threads", "processes")  # beside recipe and options


def compare(pairs: list[Pair]) -> dict[str, Any]:
    """The runs of two studies.

    Returns:
        How many are in both, and of these how many have the same numbers (``same``; ``as_told`` of them only by what
        tables of an earlier version tell), and of how many code, stack or data are other ones; those with ``other``
        numbers, the largest change of accuracy first, each with whether its specification is the same; and those in
        one alone.
    """
    both = [(pair, left, right) for pair in pairs for left, right in pair.both]
    kinds = [_alike(left, right) for _, left, right in both]
    other = [_changed(*found) for found, kind in zip(both, kinds, strict=True) if kind is None]
    other.sort(key=_size, reverse=True)
    return {
        "in_both": len(both),
        "same": len(both) - len(other),
        "as_told": kinds.count("told"),
        "made_otherwise": {
            name: sum(left[f"{name}_digest"] != right[f"{name}_digest"] for _, left, right in both)
            for name in ("code", "stack", "data")
        },
        "other": other,
        **{f"only_{side}": _only(pairs, side) for side in ("left", "right")},
    }


def _alike(left: Row, right: Row) -> str | None:
    """How two runs are known to have the same numbers; None where they have not.

    The digest of a record is over the run's identity too, that of its numbers over them alone.
    """
    digests = [(left.get(name), right.get(name)) for name in ("digest", "numbers_digest")]
    if any(a is not None and a == b for a, b in digests):
        return "digest"
    if None not in digests[1]:
        return None
    return None if _numbers(left, right) else "told"


def _numbers(left: Row, right: Row) -> dict[str, list[Any]]:
    """The status and the numbers of a table that differ, with both values."""
    names = [name for name in ("status", *NUMBERS) if left.get(name) != right.get(name)]
    return {name: [left.get(name), right.get(name)] for name in names}


def _changed(pair: Pair, left: Row, right: Row) -> dict[str, Any]:
    changes = _numbers(left, right)
    known = None not in (left["accuracy"], right["accuracy"])
    return {
        **pair.key,
        "seed": left["seed"],
        "same_specification": left["spec_digest"] == right["spec_digest"],
        "accuracy": [left["accuracy"], right["accuracy"]],
        "points": PERCENT * (right["accuracy"] - left["accuracy"]) if known else None,
        "changes": changes,
        "most": max((_relative(*values) for name, values in changes.items() if name != "status"), default=0.0),
    }


def _size(row: dict[str, Any]) -> tuple[float, float]:
    """What changed runs are sorted by: points of accuracy, one that came or went before all; then any other number."""
    return math.inf if row["points"] is None else abs(row["points"]), row["most"]


def _relative(left: float | None, right: float | None) -> float:
    """A change as a share of the larger of two numbers; 1 where one of them is missing."""
    if left is None or right is None:
        return 1.0
    return abs(right - left) / max(abs(left), abs(right))


def _only(pairs: list[Pair], side: str) -> list[dict[str, Any]]:
    """The seeds of each cell that one side alone has."""
    other = "right" if side == "left" else "left"
    rows = []
    for pair in pairs:
        mine, theirs = getattr(pair, side), getattr(pair, other)
        if seeds := sorted(mine.keys() - theirs.keys()):
            rows.append({**pair.key, "seeds": seeds, "cell": not theirs})
    return rows


def specifications(pairs: list[Pair]) -> list[dict[str, Any]]:
    """What paired cells ask for differently, cells that differ alike together."""
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        if not (pair.left and pair.right):
            continue
        left, right = (next(iter(runs.values())) for runs in (pair.left, pair.right))
        changes = _asked(left, right)
        shared = next(iter(pair.both), None)
        if shared and shared[0]["spec_digest"] != shared[1]["spec_digest"] and not changes:
            changes = {"something else, such as the sweep": ["", ""]}
        if changes:
            row = found.setdefault(json.dumps(changes, sort_keys=True), {"changes": changes, "cells": []})
            row["cells"].append("/".join(pair.key.values()))
    return list(found.values())


def _asked(left: Row, right: Row) -> dict[str, list[Any]]:
    """Entries of recipe and options, and what else a table tells of a specification, that differ."""
    changes = {}
    for name in ("recipe", "options"):
        mine, theirs = json.loads(left[name]), json.loads(right[name])
        for key in dict.fromkeys([*mine, *theirs]):
            if mine.get(key) != theirs.get(key):
                changes[key] = [mine.get(key), theirs.get(key)]
    for name in _SPECIFIED:
        if name in left and name in right and left[name] != right[name]:
            changes[name] = [left[name], right[name]]
    return changes


def settings(pairs: list[Pair]) -> list[dict[str, Any]]:
    """Mean accuracy of each method in percent on either side, its difference to the baseline, and the change.

    ``spread`` is the larger of the two standard deviations over seeds; a change within it is what another draw of
    seeds may do. All in percentage points.
    """
    bases = {side: _baselines(pairs, side) for side in ("left", "right")}
    rows = []
    for pair in pairs:
        if not (pair.left and pair.right):
            continue
        row: dict[str, Any] = {**pair.key, "recipe": _any(pair.left).get("setting") or ""}
        values = {}
        for side in ("left", "right"):
            values[side] = by_seed(getattr(pair, side))
            base = bases[side].get(_place(_any(getattr(pair, side))))
            difference = None
            if base is not None and base is not pair:
                difference = _told(paired_difference(values[side], by_seed(getattr(base, side))))
            row[side] = {"accuracy": _told(mean_interval(list(values[side].values()))), "difference": difference}
        spreads = [np.std(list(found.values()), ddof=1) for found in values.values() if len(found) > 1]
        row["spread"] = float(max(spreads)) if spreads else None
        means = [row[side]["accuracy"]["mean"] for side in ("left", "right")]
        row["change"] = None if None in means else means[1] - means[0]
        known = row["spread"] is not None and row["change"] is not None
        row["beyond_spread"] = abs(row["change"]) > row["spread"] if known else None
        rows.append(row)
    return rows


def by_seed(runs: dict[int, Row]) -> dict[int, float]:
    """Accuracy in percent by seed, of the runs that have one."""
    return {seed: PERCENT * row["accuracy"] for seed, row in runs.items() if row["accuracy"] is not None}


def _any(runs: dict[int, Row]) -> Row:
    return next(iter(runs.values()))


def _place(row: Row) -> tuple[Any, ...]:
    return row["dataset"], row["architecture"], row.get("setting")


def _baselines(pairs: list[Pair], side: str) -> dict[tuple[Any, ...], Pair]:
    """The first baseline of each setting; none in tables of a version that did not say which it is."""
    found: dict[tuple[Any, ...], Pair] = {}
    for pair in pairs:
        runs = getattr(pair, side)
        if runs and _any(runs).get("baseline"):
            found.setdefault(_place(_any(runs)), pair)
    return found


def _told(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON, what is not known as null."""
    return {name: None if value != value else value for name, value in vars(estimate).items()}
