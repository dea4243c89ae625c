"""Gather the evidence for the checklist and the research object from a study's tables and verdicts."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rdp import data, tables
from rdp.claims import verdict_json
from rdp.claims.model import KINDS
from rdp.data.dataset import DatasetInfo
from rdp.report import contents, facts, summary
from rdp.report.summary import CellSummary
from rdp.study import Plan

NOT_TESTED = "not tested"
# First words of a licence entry that gives no terms.
_NO_LICENCE = ("", "unknown", "none stated", "not stated", "unstated")


@dataclass(frozen=True)
class Evidence:
    """A study's tables and verdicts, and facts derived from them.

    Attributes:
        plan: the study.
        records: one row per run of the study, see `rdp.tables.collect.collect`.
        cells: summaries of the records by cell.
        claims: the content of ``claims.json``.
        datasets: the datasets by name, in the study's order.
        open_access: how to get each dataset that needs no permission.
        manual_access: how to get each of the other datasets.
        unfinished: runs that did not complete, by cell, with reasons.
        machines: the machines that trained the runs, with versions.
        sweep_seconds: total time of the runs of sweeps; None unless all times are known.
        recording: sentences on the origin of recorded results; empty for results that were trained here.
    """

    plan: Plan
    records: pd.DataFrame
    cells: list[CellSummary]
    claims: dict[str, Any]
    datasets: dict[str, DatasetInfo]
    open_access: dict[str, str]
    manual_access: dict[str, str]
    unfinished: list[dict[str, Any]]
    machines: list[dict[str, Any]]
    sweep_seconds: float | None
    recording: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of runs by status."""
        return {str(status): int(n) for status, n in self.records["status"].value_counts().items()}

    @property
    def done(self) -> pd.DataFrame:
        """The rows of the runs that left a record."""
        return self.records[self.records["spec_digest"].notna()]

    @property
    def commits(self) -> list[str]:
        """The commits at which runs were trained, with a ``+`` for uncommitted changes."""
        return sorted(self.records["commit"].dropna().unique())

    @property
    def figures(self) -> frozenset[str]:
        """The names of the report's figures."""
        return frozenset(contents.figures(self.plan))

    def of_kind(self, kind: str) -> list[str]:
        """Return the study's ``confirmatory`` or ``exploratory`` datasets."""
        return [name for name in self.datasets if KINDS[name not in self.claims["confirmatory"]] == kind]

    def tested(self) -> list[dict[str, Any]]:
        """Return the claims with a verdict on data of either kind."""
        return [c for c in self.claims["claims"] if any(v["verdict"] != NOT_TESTED for v in c["verdicts"].values())]

    def verdicts(self, kind: str) -> Counter[str]:
        """Count the verdicts on data of a kind."""
        return Counter(claim["verdicts"][kind]["verdict"] for claim in self.claims["claims"])

    def without_licence(self) -> list[str]:
        """Return the datasets whose terms are not known."""
        return [name for name, info in self.datasets.items() if not licence_known(info.licence)]


def licence_known(licence: str) -> bool:
    """Return whether a licence entry names terms; ``none needed`` does."""
    return not any(licence.strip().lower() == word or licence.lower().startswith(f"{word} ") for word in _NO_LICENCE)


def gather(plan: Plan, results: Path) -> Evidence:
    """Read a study's tables and verdicts, and derive the evidence.

    Raises:
        UserError: tables or verdicts are missing, damaged or of another study.
    """
    loaded = tables.load(plan, results)
    datasets = {cell.dataset: data.info(cell.dataset) for cell in plan.cells}
    ways = {name: _open_access(name) for name in datasets}
    return Evidence(
        plan=plan,
        records=loaded.records,
        cells=summary.cells(plan, loaded.records),
        claims=verdict_json.read(plan.name, results),
        datasets=datasets,
        open_access={name: way for name, way in ways.items() if way},
        manual_access={name: datasets[name].get or "not documented" for name, way in ways.items() if not way},
        unfinished=facts.unfinished(plan, loaded.records),
        machines=facts.machines(loaded.records),
        sweep_seconds=_seconds(loaded.sweep),
        recording=facts.recording(plan, loaded.records, results),
    )


def _open_access(dataset: str) -> str | None:
    """Return how anybody can get a dataset, or None if no command downloads it."""
    source = data.source(dataset)
    if hasattr(source, "BUNDLED"):
        return str(source.BUNDLED)
    return f"downloaded and verified by rdp data fetch {dataset}" if hasattr(source, "fetch") else None


def _seconds(sweep: pd.DataFrame) -> float | None:
    """Return the total time of the runs of sweeps, or None unless all times are known."""
    seconds = sweep.drop_duplicates("sweep_run")["seconds"]
    return float(seconds.sum()) if seconds.notna().all() else None
