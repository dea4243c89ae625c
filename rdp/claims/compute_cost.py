"""Compute cost of claims: core-hours, GPU-hours and energy of the runs behind each verdict.

The cost covers training and evaluation of recorded runs, including the attempts they resumed from. It excludes work
without a record (replaced runs, time between a checkpoint and a kill), probes and throughput measurements.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from rdp.claims.verdicts import ClaimVerdicts
from rdp.jobs import energy
from rdp.tables import Tables

_HOUR = 3600.0


def compute_costs(tables: Tables, verdicts: Iterable[ClaimVerdicts]) -> dict[str | None, dict[str, Any]]:
    """The cost of the runs that decide each claim, by claim, and of all runs of the study, under None.

    It counts each run once, and the sweeps that chose the learning rates of a claim's runs. Where some runs lack a
    number, it gives the sum over the others and how many these are. ``shared`` counts the runs that decide more than
    one claim. ``core_hours`` covers runs on CPUs, ``gpu_hours`` runs on GPUs.
    """
    table, sweeps = _costs(tables)
    names: dict[str | None, set[str]] = {}
    for claim in verdicts:
        comparisons = (c for verdict in claim.verdicts.values() for c in verdict.comparisons)
        deciding = {run for c in comparisons for group in c.evidence.runs for run in group}
        swept = {name for run in deciding for name in sweeps.get(run.partition("/")[0], ())}
        names[claim.name] = (deciding | swept) & set(table.index)
    claims_per_run = Counter(run for runs in names.values() for run in runs)
    names[None] = set(table.index)
    return {name: _sum(table.loc[sorted(runs)], claims_per_run) for name, runs in names.items()}


def _sum(runs: pd.DataFrame, claims_per_run: Counter[str]) -> dict[str, Any]:
    timed = runs[runs["seconds"].notna() & runs["device_type"].notna()]
    on_gpu = timed["device_type"] == "cuda"
    cores = timed["threads"] * timed["processes"]
    joules = {kind: runs[kind].dropna() for kind in energy.KINDS}
    return {
        "runs": len(runs),
        "of_sweeps": int(runs["sweep"].sum()),
        "shared": sum(claims_per_run[run] > 1 for run in runs.index),
        "timed": len(timed),
        "core_hours": float((timed["seconds"] * cores)[~on_gpu].sum()) / _HOUR,
        "gpu_hours": float((timed["seconds"] * timed["processes"])[on_gpu].sum()) / _HOUR,
        **{kind: float(values.sum()) if len(values) else None for kind, values in joules.items()},
        **{f"{kind}_of": len(values) for kind, values in joules.items()},
    }


def _costs(tables: Tables) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    columns = ["seconds", "device_type", "threads", "processes", *energy.KINDS]
    sweep = tables.sweep.rename(columns={"run": "of", "sweep_run": "run"})
    sweeps: dict[str, list[str]] = {}
    for of, run in zip(sweep["of"], sweep["run"], strict=True):
        sweeps.setdefault(of.partition("/")[0], []).append(run)
    both = {False: tables.records, True: sweep}
    rows = [table[table["status"] != "missing"][["run", *columns]].assign(sweep=swept) for swept, table in both.items()]
    # Several cells may share a sweep.
    runs = pd.concat([table for table in rows if len(table)] or rows[:1]).drop_duplicates("run").set_index("run")
    return runs.astype(dict.fromkeys(("seconds", *energy.KINDS), "float64")), sweeps
