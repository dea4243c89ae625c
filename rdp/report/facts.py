"""Facts about a study's runs that both the page and the paper show."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from rdp.report.formatting import DASH, listed, ranges
from rdp.store import fingerprint, origin
from rdp.study import Plan
from rdp.utils.humanize import count

_REASONS = 2  # reasons that a row lists
_REASON = 300  # characters of a reason, so that a row fits on a page


def machines(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The stacks that trained runs, with the number of runs of each."""
    rows = []
    for stack, runs in table["stack"][table["spec_digest"].notna()].value_counts().items():
        versions = json.loads(stack)
        device = ", ".join(versions.pop(name) for name in ("device", "instructions") if name in versions)
        rows.append({"runs": runs, "device": device, "versions": ", ".join(f"{k} {v}" for k, v in versions.items())})
    return rows


def recording(plan: Plan, table: pd.DataFrame, results: Path) -> list[str]:
    """The origin of recorded results, in sentences; empty for results that were trained in place."""
    if not origin.is_recorded(results):
        return []
    source = origin.read(results)
    devices = "; ".join(
        f"{count(row['runs'], 'run')} on {row['device']} with {row['versions']}" for row in machines(table)
    )
    swept = f", and {source['runs']['sweep']} of sweeps" if source["runs"]["sweep"] else ""
    commits = f"commit {listed(source['commits'])}" if source["commits"] else "an unknown commit"
    when = (
        f"from {source['started']} to {source['ended']}"
        if source["started"] and source["ended"]
        else "at unknown times"
    )
    packed = source["packed_on"]
    memory = f"{packed['memory_bytes'] / 1e9:.0f} GB of memory"
    return [
        "This report is built from recorded results; nothing was trained or measured for it. The records are of "
        f"{count(len(table), 'run')}{swept}, trained {when} at {commits}: {devices}.",
        f"They were packed on a machine with {count(packed['cores'], 'core')} and {memory} ({packed['system']}), at "
        f"commit {packed['commit'] or 'unknown'}. Every file was verified against the manifest with the seal "
        f"{source['archive_seal'][:12]}.",
        _code(plan, table),
    ]


def _code(plan: Plan, table: pd.DataFrame) -> str:
    """Whether the training code of this checkout is that of the recorded runs, in a sentence."""
    digests = dict(zip(table["run"], table["code_digest"], strict=True))
    accepted = set(table["run"][table["adopted"].astype(bool)])
    different = {spec.run for spec in plan.specs if digests[spec.run] != fingerprint.code_of(spec)}
    other = len(different - accepted)
    if not different:
        return "The training code of this checkout is the code that trained them."
    if not other:
        return " ".join(adopted(table))
    which = "any of them" if other == len(table) else f"{other} of the {count(len(table), 'run')}"
    return (
        f"The training code of this checkout differs from the code that trained {which}. Their numbers are those of "
        "their commit; this checkout made the tables, figures and verdicts from them."
    )


def adopted(table: pd.DataFrame) -> list[str]:
    """The number of adopted runs, in a sentence; empty if there are none."""
    number = int(table["adopted"].astype(bool).sum())
    if not number:
        return []
    were = f"{count(number, 'run')} of {len(table)} {'was' if number == 1 else 'were'}"
    return [
        f"{were} trained by other code than this checkout's and adopted: a sample of them, retrained with this "
        "checkout's code, gave the same bits."
    ]


def unfinished(plan: Plan, table: pd.DataFrame) -> list[dict[str, str]]:
    """The incomplete runs by cell and status, with their seeds and the reasons."""
    titles = {cell.id: cell.title for cell in plan.cells}
    rows = []
    for (cell, status), runs in table[table["status"] != "completed"].groupby(["cell", "status"], sort=False):
        reasons = [textwrap.shorten(reason, _REASON) for reason in dict.fromkeys(runs["reason"].dropna())]
        more = [f"and {len(reasons) - _REASONS} other reasons"] if len(reasons) > _REASONS else []
        row = {"cell": titles[cell], "status": status, "seeds": ranges(runs["seed"]), "n": len(runs)}
        rows.append(row | {"reason": "; ".join([*reasons[:_REASONS], *more]) or DASH})
    return rows
