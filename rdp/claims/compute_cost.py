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


class ComputeCost:
    """The cost of the runs of a study and of its sweeps.

    Args:
        tables: the study's tables.
        verdicts: the verdicts on all claims. Claims may share runs.
    """

    def __init__(self, tables: Tables, verdicts: Iterable[ClaimVerdicts]) -> None:
        self._runs, self._sweeps = _costs(tables)
        self._names = {claim.name: self._deciding_runs(claim) for claim in verdicts}
        self._claims_per_run = Counter(run for runs in self._names.values() for run in runs)

    def of_claim(self, name: str) -> dict[str, Any]:
        """The cost of the runs that decide a claim, each counted once."""
        return self._sum(self._names[name])

    def of_study(self) -> dict[str, Any]:
        """The cost of all runs of the study, each counted once, including runs that decide no claim."""
        return self._sum(set(self._runs.index))

    def _deciding_runs(self, claim: ClaimVerdicts) -> set[str]:
        """The runs that decide a claim and those of the sweeps that chose their learning rates."""
        comparisons = (c for verdict in claim.verdicts.values() for c in verdict.comparisons)
        runs = {run for c in comparisons for names in c.evidence.runs for run in names}
        swept = {name for run in runs for name in self._sweeps.get(run.partition("/")[0], ())}
        return (runs | swept) & set(self._runs.index)

    def _sum(self, names: set[str]) -> dict[str, Any]:
        """Sums over runs. Where some runs lack a number, the sum over the others and how many these are.

        ``shared`` counts the runs that decide more than one claim. ``core_hours`` covers runs on CPUs, ``gpu_hours``
        runs on GPUs.
        """
        runs = self._runs.loc[sorted(names)]
        timed = runs[runs["seconds"].notna() & runs["device_type"].notna()]
        on_gpu = timed["device_type"] == "cuda"
        cores = timed["threads"] * timed["processes"]
        joules = {kind: runs[kind].dropna() for kind in energy.KINDS}
        return {
            "runs": len(runs),
            "of_sweeps": int(runs["sweep"].sum()),
            "shared": sum(self._claims_per_run[run] > 1 for run in names),
            "timed": len(timed),
            "core_hours": float((timed["seconds"] * cores)[~on_gpu].sum()) / _HOUR,
            "gpu_hours": float((timed["seconds"] * timed["processes"])[on_gpu].sum()) / _HOUR,
            **{kind: float(values.sum()) if len(values) else None for kind, values in joules.items()},
            **{f"{kind}_of": len(values) for kind, values in joules.items()},
        }


def _costs(tables: Tables) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The cost of each recorded run by name, and the names of each cell's sweep runs."""
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
