"""What it took to know: hours of cores and GPUs, and joules, of the runs that a verdict rests on.

Counted are runs as they are recorded: what they took in training and evaluation, with the attempts that they go on
from. What left no record (runs that were trained again since, time between a checkpoint and a kill), probes and
measurements of throughput are not.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from rdp.claims.verdicts import Finding
from rdp.jobs import energy
from rdp.tables import Tables

_HOUR = 3600.0


class Knowing:
    """The runs of a study and of its sweeps, with what each took.

    Args:
        tables: of the study.
        findings: all of its claims, each of which rests on runs that others may rest on too.
    """

    def __init__(self, tables: Tables, findings: Iterable[Finding]) -> None:
        self._runs, self._swept_for = _taken(tables)
        self._of = {found.name: self._behind(found) for found in findings}
        self._claims = Counter(run for runs in self._of.values() for run in runs)

    def of_claim(self, name: str) -> dict[str, Any]:
        """What the runs behind a claim's verdicts took, each counted once."""
        return self._sum(self._of[name])

    def of_study(self) -> dict[str, Any]:
        """What all runs of the study took, each counted once, those too that speak to no claim, diverged or failed."""
        return self._sum(set(self._runs.index))

    def _behind(self, found: Finding) -> set[str]:
        """The runs that decide a claim, and those of the sweeps that chose what they were trained with."""
        deciding = (c for verdict in found.verdicts.values() for c in verdict.comparisons)
        runs = {run for c in deciding for names in c.evidence.runs for run in names}
        swept = {name for run in runs for name in self._swept_for.get(run.partition("/")[0], ())}
        return (runs | swept) & set(self._runs.index)

    def _sum(self, names: set[str]) -> dict[str, Any]:
        """Sums over runs; of what not all of them tell, the sum of those that do, and how many they are.

        ``shared`` are those that more than one claim rests on; ``core_hours`` are those of runs on CPUs, ``gpu_hours``
        those of runs on GPUs.
        """
        runs = self._runs.loc[sorted(names)]
        timed = runs[runs["seconds"].notna() & runs["device_type"].notna()]
        on_gpu = timed["device_type"] == "cuda"
        cores = timed["threads"] * timed["processes"]
        told = {kind: runs[kind].dropna() for kind in energy.KINDS}
        return {
            "runs": len(runs),
            "of_sweeps": int(runs["sweep"].sum()),
            "shared": sum(self._claims[run] > 1 for run in names),
            "timed": len(timed),
            "core_hours": float((timed["seconds"] * cores)[~on_gpu].sum()) / _HOUR,
            "gpu_hours": float((timed["seconds"] * timed["processes"])[on_gpu].sum()) / _HOUR,
            **{kind: float(told[kind].sum()) if len(told[kind]) else None for kind in energy.KINDS},
            **{f"{kind}_of": len(told[kind]) for kind in energy.KINDS},
        }


def _taken(tables: Tables) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """What each recorded run took, by its name; and the runs of each cell's sweep."""
    columns = ["seconds", "device_type", "threads", "processes", *energy.KINDS]
    sweep = tables.sweep.rename(columns={"run": "of", "sweep_run": "run"})
    swept_for: dict[str, list[str]] = {}
    for of, run in zip(sweep["of"], sweep["run"], strict=True):
        swept_for.setdefault(of.partition("/")[0], []).append(run)
    both = {False: tables.records, True: sweep}
    rows = [table[table["status"] != "missing"][["run", *columns]].assign(sweep=swept) for swept, table in both.items()]
    # A sweep may be that of several cells.
    runs = pd.concat([found for found in rows if len(found)] or rows[:1]).drop_duplicates("run").set_index("run")
    return runs.astype(dict.fromkeys(("seconds", *energy.KINDS), "float64")), swept_for
