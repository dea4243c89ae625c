"""What the page and the paper both tell of a study's runs."""

import json
import textwrap
from typing import Any

import pandas as pd

from rdp.report.forms import DASH, ranges
from rdp.study import Plan

_REASONS = 2  # of a cell's runs, that a table still tells one by one
_REASON = 300  # characters of a reason, of which a row must not outgrow its page


def machines(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The stacks that trained runs, with how many each."""
    rows = []
    for stack, runs in table["stack"][table["spec_digest"].notna()].value_counts().items():
        told_of = json.loads(stack)
        device = ", ".join(told_of.pop(name) for name in ("device", "instructions") if name in told_of)
        rows.append({"runs": runs, "device": device, "versions": ", ".join(f"{k} {v}" for k, v in told_of.items())})
    return rows


def unfinished(plan: Plan, table: pd.DataFrame) -> list[dict[str, str]]:
    """The runs that did not complete, those of a cell and status together, with their seeds and the reasons."""
    titles = {cell.id: cell.title for cell in plan.cells}
    rows = []
    for (cell, status), runs in table[table["status"] != "completed"].groupby(["cell", "status"], sort=False):
        reasons = [textwrap.shorten(reason, _REASON) for reason in dict.fromkeys(runs["reason"].dropna())]
        more = [f"and {len(reasons) - _REASONS} other reasons"] if len(reasons) > _REASONS else []
        row = {"cell": titles[cell], "status": status, "seeds": ranges(runs["seed"]), "n": len(runs)}
        rows.append(row | {"reason": "; ".join([*reasons[:_REASONS], *more]) or DASH})
    return rows
