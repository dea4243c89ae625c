"""The facts about a study that page, paper, tables, checklist and research object share."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

from rdp import data, tables
from rdp.claims import verdict_json
from rdp.claims.model import KINDS
from rdp.jobs import energy
from rdp.report import claims_view, contents, efficiency, summary, templating
from rdp.report.findings import findings
from rdp.report.formatting import DASH, ranges
from rdp.store import fingerprint, origin
from rdp.study import Plan, comparisons
from rdp.tables.collect import ROW_STATUSES
from rdp.utils import distribution
from rdp.utils.humanize import count

_REASONS = 2  # reasons that a row lists
_REASON = 300  # characters of a reason, so that a row fits on a page
ALL = "the study, each run once"
_DEVICES = {"gpu_joules": "GPUs", "cpu_package_joules": "processor packages"}


def gather(plan: Plan, results: Path) -> dict[str, Any]:
    """Read a study's tables and verdicts, and return the facts that templates use, by name.

    Raises:
        UserError: tables or verdicts are missing, damaged or of another study.
    """
    loaded = tables.load(plan, results)
    records, verdicts = loaded.records, verdict_json.read(plan.name, results)
    cells, baseline = summary.cells(plan, records), comparisons.baseline(plan)
    counts = records["status"].value_counts()
    datasets = {cell.dataset: data.info(cell.dataset) for cell in plan.cells}
    kinds = {name: KINDS[name not in verdicts["confirmatory"]] for name in datasets}
    return {
        "plan": plan,
        "version": distribution.version(),
        "tables": loaded,
        "verdicts": verdicts,
        "tally": claims_view.tally(verdicts),
        "costs": costs(verdicts),
        "energies": energies(verdicts),
        "done": records[records["spec_digest"].notna()],
        "sweep_runs": loaded.sweep["sweep_run"].nunique(),
        "sweep_seconds": _seconds(loaded.sweep),
        "runs": len(records),
        "counts": {status: int(counts.get(status, 0)) for status in ROW_STATUSES},
        "seeds": plan.study.seed_list(),
        "commits": sorted(records["commit"].dropna().unique()),
        "baseline": baseline,
        "cells": cells,
        "findings": findings(plan, cells, verdicts, baseline),
        "comparisons": summary.by_budget(cells),
        "budgets": summary.BUDGETS,
        "efficient": list(efficiency.efficiencies(plan, records)),
        "datasets": datasets,
        "data_of": {kind: [name for name in datasets if kinds[name] == kind] for kind in KINDS},
        "recording": recording(plan, records, results),
        "machines": machines(records),
        "adopted": adopted(records),
        "unfinished": unfinished(plan, records),
        "choices": contents.texts("choices"),
    }


def costs(verdicts: dict[str, Any]) -> list[dict[str, Any]]:
    """The compute cost of each claim in ``claims.json``, and in a last row that of the study."""
    by_name = {claim["name"]: claim["cost"] for claim in verdicts["claims"]} | {ALL: verdicts["cost"]}
    return [{"claim": name, **cost} for name, cost in by_name.items()]


def energies(verdicts: dict[str, Any]) -> dict[str, str]:
    """The kinds of energy that any run of the study measured, with the devices of each."""
    return {kind: _DEVICES[kind] for kind in energy.KINDS if verdicts["cost"][f"{kind}_of"]}


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
    recorded = table[table["code_digest"].notna()]
    digests = dict(zip(recorded["run"], recorded["code_digest"], strict=True))
    accepted = set(recorded["run"][recorded["adopted"].astype(bool)])
    specs = (spec for spec in plan.specs if spec.run in digests)
    different = {spec.run for spec in specs if digests[spec.run] != fingerprint.code_of(spec)}
    text = templating.plain("recording.j2").render(
        runs=len(recorded),
        source=origin.read(results),
        machines=machines(table),
        different=different,
        other=len(different - accepted),
        adopted=adopted(table),
    )
    return text.splitlines()


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


def _seconds(sweep: pd.DataFrame) -> float | None:
    seconds = sweep.drop_duplicates("sweep_run")["seconds"]
    return float(seconds.sum()) if seconds.notna().all() else None
