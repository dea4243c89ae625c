"""Two studies, stacks or versions side by side: what changed in numbers, verdicts and figures."""

import json
from typing import Any

import pandas as pd

from rdp.claims.model import KINDS
from rdp.diffs import figures, runs
from rdp.diffs.pairing import pairs
from rdp.diffs.sides import Side, load
from rdp.utils.humanize import count

__all__ = ["Side", "compare", "load"]


def compare(left: Side, right: Side) -> dict[str, Any]:
    """All that differs, as JSON.

    ``same`` is whether runs, verdicts, claims' texts and figures are; what made them (``identity``) may differ without.
    Evidence in words follows the numbers, and has no say; nor has time that was measured.
    """
    paired = pairs(left.records, right.records)
    found = {
        "left": _side(left),
        "right": _side(right),
        "identity": _identity(left.records, right.records),
        "specifications": runs.specifications(paired),
        "runs": runs.compare(paired),
        "settings": runs.settings(paired),
        "claims": _claims(left.claims, right.claims),
        "figures": figures.compare(left.figures, right.figures),
    }
    changes = _changes(found)
    told = "; ".join(changes) or "no run in either"
    return {"same": not _differs(found), "summary": told} | found


def _side(side: Side) -> dict[str, Any]:
    statuses = side.records["status"].value_counts().to_dict()
    return {"name": side.name, "folder": str(side.folder), "study": side.study, "runs": statuses}


def _identity(left: pd.DataFrame, right: pd.DataFrame) -> list[dict[str, Any]]:
    """What made the numbers of either: values of each kind, and whether they are the same."""
    sides = [_made_by(table[table["status"] != "missing"]) for table in (left, right)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    rows = [{"what": name, "left": sides[0].get(name, []), "right": sides[1].get(name, [])} for name in names]
    return [row | {"same": row["left"] == row["right"]} for row in rows]


def _made_by(table: pd.DataFrame) -> dict[str, list[str]]:
    found = {"code": _values(table, "code_digest"), "stack": _values(table, "stack_digest")}
    for dataset, mine in table.groupby("dataset"):
        found[f"data of {dataset}"] = _values(mine, "data_digest")
    parts: dict[str, set[str]] = {}
    for stack in table["stack"].dropna().unique():
        for name, value in json.loads(stack).items():
            parts.setdefault(name, set()).add(str(value))
    found |= {name: sorted(values) for name, values in sorted(parts.items())}
    return (
        found
        | {name: _values(table, name) for name in ("system", "host", "commit")}
        | {"tables made by": _values(table, "collector")}
    )


def _values(table: pd.DataFrame, name: str) -> list[str]:
    return sorted(table[name].dropna().astype(str).unique()) if name in table else []


def _claims(left: dict[str, Any] | None, right: dict[str, Any] | None) -> dict[str, Any]:
    """Verdicts and texts of the claims; where one side has decided none, that is all there is to say."""
    there = [content is not None for content in (left, right)]
    mine, theirs = ({c["name"]: c for c in (content or {"claims": []})["claims"]} for content in (left, right))
    verdicts, lines = [], []
    for name in (name for name in mine if name in theirs):
        for kind in KINDS:
            old, new = (side[name]["verdicts"][kind] for side in (mine, theirs))
            row = {"claim": name, "title": theirs[name]["title"], "kind": kind}
            row |= {"left": [old["verdict"], old["line"]], "right": [new["verdict"], new["line"]]}
            if old["verdict"] != new["verdict"]:
                verdicts.append(row)
            elif old["line"] != new["line"]:
                lines.append(row)
    compared = all(there)
    return {
        "decided": there,
        "verdicts": verdicts,
        "evidence": lines,
        "texts": [name for name in mine if name in theirs and mine[name]["digest"] != theirs[name]["digest"]],
        "only_left": [name for name in mine if name not in theirs] if compared else [],
        "only_right": [name for name in theirs if name not in mine] if compared else [],
    }


def _differs(found: dict[str, Any]) -> bool:
    of_runs, of_claims = found["runs"], found["claims"]
    return bool(
        any(of_runs[name] for name in ("other", "only_left", "only_right"))
        or found["specifications"]
        or any(of_claims[name] for name in ("verdicts", "texts", "only_left", "only_right"))
        or len(set(of_claims["decided"])) > 1
        or any(row["status"] in ("changed", "only left", "only right") for row in found["figures"])
    )


def _changes(found: dict[str, Any]) -> list[str]:
    """The first line, in parts."""
    of_runs, of_claims = found["runs"], found["claims"]
    other, both = of_runs["other"], of_runs["in_both"]
    apart = sum(not row["same_specification"] for row in other)
    parts = []
    if both and not other:
        parts.append("the same numbers, " + ("as far as the tables tell" if of_runs["as_told"] else "bit for bit"))
    if other:
        asked = f", {apart} of them of another specification" if apart else ""
        parts.append(f"other numbers in {len(other)} of {count(both, 'run')}{asked}")
    elif found["specifications"]:
        parts.append(f"other specifications of {count(sum(len(r['cells']) for r in found['specifications']), 'cell')}")
    for side in ("left", "right"):
        if alone := sum(len(row["seeds"]) for row in of_runs[f"only_{side}"]):
            parts.append(f"{count(alone, 'run')} only {side}")
    if changed := len(of_claims["verdicts"]):
        parts.append(f"{count(changed, 'verdict')} changed")
    if changed := len(of_claims["texts"]):
        parts.append(f"the text of {count(changed, 'claim')} changed")
    for side in ("left", "right"):
        if alone := len(of_claims[f"only_{side}"]):
            parts.append(f"{count(alone, 'claim')} only {side}")
    if of_claims["decided"] in ([True, False], [False, True]):
        parts.append(f"claims decided only {'left' if of_claims['decided'][0] else 'right'}")
    for status in ("changed", "only left", "only right"):
        if changed := sum(row["status"] == status for row in found["figures"]):
            parts.append(f"{count(changed, 'figure')} {status}")
    if changed := sum(row["status"] == "timing" for row in found["figures"]):
        parts.append(f"other measured times in {count(changed, 'figure')}")
    return parts
