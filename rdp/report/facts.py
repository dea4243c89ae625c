"""What the page and the paper both tell of a study's runs."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from rdp.report.formatting import DASH, listed, ranges
from rdp.store import fingerprint, origin
from rdp.study import Plan
from rdp.utils.humanize import count

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


def recording(plan: Plan, table: pd.DataFrame, results: Path) -> list[str]:
    """In sentences, where results came from that were recorded and not trained here; none for those that were."""
    if not origin.is_recorded(results):
        return []
    told = origin.read(results)
    devices = "; ".join(
        f"{count(row['runs'], 'run')} on {row['device']} with {row['versions']}" for row in machines(table)
    )
    swept = f", and {told['runs']['sweep']} of sweeps" if told["runs"]["sweep"] else ""
    commits = f"commit {listed(told['commits'])}" if told["commits"] else "a commit that is not known"
    when = f"from {told['started']} to {told['ended']}" if told["started"] and told["ended"] else "at unknown times"
    packed = told["packed_on"]
    memory = f"{packed['memory_bytes'] / 1e9:.0f} GB of memory"
    return [
        "Nothing was trained or measured to make this report. Its records are those of "
        f"{count(len(table), 'run')}{swept}, trained {when} at {commits}: {devices}.",
        f"They were packed on a machine with {count(packed['cores'], 'core')} and {memory} ({packed['system']}), at "
        f"commit {packed['commit'] or 'unknown'}. Every file was verified by a manifest of which the seal begins with "
        f"{told['archive_seal'][:12]}.",
        _code(plan, table),
    ]


def _code(plan: Plan, table: pd.DataFrame) -> str:
    """Whether this checkout would train recorded runs with the code that did."""
    digests = dict(zip(table["run"], table["code_digest"], strict=True))
    accepted = set(table["run"][table["adopted"].astype(bool)])
    different = {spec.run for spec in plan.specs if digests[spec.run] != fingerprint.code_of(spec)}
    other = len(different - accepted)
    if not different:
        return "The training code of this checkout is the one that made them."
    if not other:
        return " ".join(adopted(table))
    which = "any of them" if other == len(table) else f"{other} of the {count(len(table), 'run')}"
    return (
        f"The training code of this checkout is not the one that made {which}: their numbers are those of their "
        "commit; tables, figures and verdicts are made from them by this checkout."
    )


def adopted(table: pd.DataFrame) -> list[str]:
    """In a sentence, how many runs were made by other code that was adopted; none where none was."""
    found = int(table["adopted"].astype(bool).sum())
    if not found:
        return []
    were = f"{count(found, 'run')} of {len(table)} {'was' if found == 1 else 'were'}"
    return [
        f"{were} made by other training code than this checkout's, and adopted: some of those, trained again with "
        "this checkout's, came to the same bits."
    ]


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
