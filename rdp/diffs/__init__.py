"""Compare the products of two studies, machines or versions: numbers, verdicts and figures."""

import json
from typing import Any

import pandas as pd

from rdp.claims.model import KINDS
from rdp.diffs import figures, runs
from rdp.diffs.pairing import pairs
from rdp.diffs.sides import Side, load
from rdp.utils.humanize import count

__all__ = ["Side", "compare", "load"]

_SIDES = ("left", "right")


def compare(left: Side, right: Side) -> dict[str, Any]:
    """Return the differences between two sides as JSON.

    ``same`` is true if runs, verdicts, claim texts and figures are equal. Code, stack and data (``identity``), the
    evidence in words, and measured times may differ.
    """
    paired = pairs(left.records, right.records)
    differences: dict[str, Any] = {
        "left": _side(left),
        "right": _side(right),
        "identity": _identity(left.records, right.records),
        "specifications": runs.specifications(paired),
        "runs": runs.compare(paired),
        "settings": runs.settings(paired),
        "claims": _claims(left.claims, right.claims),
        "figures": figures.compare(left.figures, right.figures),
    }
    changes, others = _changes(differences), []
    if timed := sum(row["status"] == "timing" for row in differences["figures"]):
        others.append(f"other measured times in {count(timed, 'figure')}")
    number = differences["runs"]["in_both"]
    equal = ["the same numbers, bit for bit"] if number and not differences["runs"]["other"] else []
    return {"same": not changes, "summary": "; ".join([*equal, *changes, *others]) or "no run in both"} | differences


def _side(side: Side) -> dict[str, Any]:
    statuses = side.records["status"].value_counts().to_dict()
    return {"name": side.name, "folder": str(side.folder), "study": side.study, "runs": statuses}


def _identity(left: pd.DataFrame, right: pd.DataFrame) -> list[dict[str, Any]]:
    sides = [_made_by(table[table["status"] != "missing"]) for table in (left, right)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    rows = [{"what": name, "left": sides[0].get(name, []), "right": sides[1].get(name, [])} for name in names]
    return [row | {"same": row["left"] == row["right"]} for row in rows]


def _made_by(table: pd.DataFrame) -> dict[str, list[str]]:
    values = {"code": _values(table, "code_digest"), "stack": _values(table, "stack_digest")}
    values |= {f"data of {dataset}": _values(rows, "data_digest") for dataset, rows in table.groupby("dataset")}
    parts: dict[str, set[str]] = {}
    for stack in table["stack"].dropna().unique():
        for name, value in json.loads(stack).items():
            parts.setdefault(name, set()).add(str(value))
    values |= {name: sorted(versions) for name, versions in sorted(parts.items())}
    values |= {name: _values(table, name) for name in ("system", "host", "commit")}
    return values | {"tables made by": _values(table, "collector")}


def _values(table: pd.DataFrame, name: str) -> list[str]:
    return sorted(table[name].dropna().astype(str).unique())


def _claims(left: dict[str, Any] | None, right: dict[str, Any] | None) -> dict[str, Any]:
    first, second = ({c["name"]: c for c in (content or {"claims": []})["claims"]} for content in (left, right))
    both = [name for name in first if name in second]
    verdicts, evidence = [], []
    for name in both:
        for kind in KINDS:
            old, new = (side[name]["verdicts"][kind] for side in (first, second))
            row = {"claim": name, "title": second[name]["title"], "kind": kind}
            row |= {"left": [old["verdict"], old["line"]], "right": [new["verdict"], new["line"]]}
            if old["verdict"] != new["verdict"]:
                verdicts.append(row)
            elif old["line"] != new["line"]:
                evidence.append(row)
    decided = [content is not None for content in (left, right)]
    return {
        "decided": decided,
        "verdicts": verdicts,
        "evidence": evidence,
        "texts": [name for name in both if first[name]["digest"] != second[name]["digest"]],
        "only_left": [name for name in first if name not in second] if all(decided) else [],
        "only_right": [name for name in second if name not in first] if all(decided) else [],
    }


def _changes(differences: dict[str, Any]) -> list[str]:
    by_run, by_claim = differences["runs"], differences["claims"]
    parts = []
    if other := by_run["other"]:
        respecified = sum(not row["same_specification"] for row in other)
        suffix = f", {respecified} of them with another specification" if respecified else ""
        parts.append(f"other numbers in {len(other)} of {count(by_run['in_both'], 'run')}{suffix}")
    elif specifications := differences["specifications"]:
        parts.append(f"other specifications of {count(sum(len(row['cells']) for row in specifications), 'cell')}")
    only = {side: sum(len(row["seeds"]) for row in by_run[f"only_{side}"]) for side in _SIDES}
    parts += [f"{count(number, 'run')} only {side}" for side, number in only.items() if number]
    if number := len(by_claim["verdicts"]):
        parts.append(f"{count(number, 'verdict')} changed")
    if number := len(by_claim["texts"]):
        parts.append(f"the text of {count(number, 'claim')} changed")
    only = {side: len(by_claim[f"only_{side}"]) for side in _SIDES}
    parts += [f"{count(number, 'claim')} only {side}" for side, number in only.items() if number]
    if len(set(by_claim["decided"])) > 1:
        parts.append(f"claims decided only {'left' if by_claim['decided'][0] else 'right'}")
    for status in ("changed", "only left", "only right"):
        if number := sum(row["status"] == status for row in differences["figures"]):
            parts.append(f"{count(number, 'figure')} {status}")
    return parts
