"""What a study's records can prove of it, gathered once for all answers of the checklist."""

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
# Of a dataset's licence: what says that there is none that anybody knows.
_UNKNOWN = ("", "unknown", "none stated", "not stated", "unstated")


@dataclass(frozen=True)
class Evidence:
    """A study's tables and verdicts, and what follows from them.

    Attributes:
        records: one row a run that the study asks for, see `rdp.tables.collect.collect`.
        cells: the same, summed up by cell.
        claims: what is in ``claims.json``.
        datasets: by name, in the study's order.
        at_hand: how each of them is got that needs nobody's permission.
        by_hand: how each of the others is.
        unfinished: runs that did not complete, by cell, with the reasons.
        machines: that trained the runs, with versions.
        swept: seconds that the runs of sweeps took together; None where not every one is known.
        recording: in sentences, where recorded results came from; none for those that were trained here.
    """

    plan: Plan
    records: pd.DataFrame
    cells: list[CellSummary]
    claims: dict[str, Any]
    datasets: dict[str, DatasetInfo]
    at_hand: dict[str, str]
    by_hand: dict[str, str]
    unfinished: list[dict[str, Any]]
    machines: list[dict[str, Any]]
    swept: float | None
    recording: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """Runs by status."""
        return {str(status): int(n) for status, n in self.records["status"].value_counts().items()}

    @property
    def done(self) -> pd.DataFrame:
        """The runs that left a record."""
        return self.records[self.records["spec_digest"].notna()]

    @property
    def commits(self) -> list[str]:
        """The commits at which runs were trained; one that ends in ``+`` had changes that were not committed."""
        return sorted(self.records["commit"].dropna().unique())

    @property
    def figures(self) -> frozenset[str]:
        """The names of the report's figures."""
        return frozenset(contents.figures(self.plan))

    def of_kind(self, kind: str) -> list[str]:
        """The study's datasets that are ``confirmatory`` or ``exploratory``."""
        return [name for name in self.datasets if KINDS[name not in self.claims["confirmatory"]] == kind]

    def tested(self) -> list[dict[str, Any]]:
        """The claims with a verdict on data of some kind."""
        return [c for c in self.claims["claims"] if any(v["verdict"] != NOT_TESTED for v in c["verdicts"].values())]

    def verdicts(self, kind: str) -> Counter[str]:
        """How many claims came out how on data of a kind."""
        return Counter(claim["verdicts"][kind]["verdict"] for claim in self.claims["claims"])

    def without_licence(self) -> list[str]:
        """The datasets whose terms are not known."""
        return [name for name, info in self.datasets.items() if not licence_known(info.licence)]


def licence_known(licence: str) -> bool:
    """Whether a dataset's licence, in words, names terms; ``none needed`` does."""
    return not any(licence.strip().lower() == word or licence.lower().startswith(f"{word} ") for word in _UNKNOWN)


def gather(plan: Plan, results: Path) -> Evidence:
    """Read a study's tables and verdicts.

    Raises:
        UserError: tables or verdicts that are absent, damaged or of another study.
    """
    loaded = tables.load(plan, results)
    datasets = {cell.dataset: data.info(cell.dataset) for cell in plan.cells}
    ways = {name: _got_by(name) for name in datasets}
    return Evidence(
        plan=plan,
        records=loaded.records,
        cells=summary.cells(plan, loaded.records),
        claims=verdict_json.read(plan.name, results),
        datasets=datasets,
        at_hand={name: way for name, way in ways.items() if way},
        by_hand={name: datasets[name].get or "nobody has told how" for name, way in ways.items() if not way},
        unfinished=facts.unfinished(plan, loaded.records),
        machines=facts.machines(loaded.records),
        swept=_seconds(loaded.sweep),
        recording=facts.recording(plan, loaded.records, results),
    )


def _got_by(dataset: str) -> str | None:
    """How a dataset is got by whoever wants it; None where no command gets it."""
    source = data.source(dataset)
    if hasattr(source, "BUNDLED"):
        return str(source.BUNDLED)
    return f"downloaded and verified by rdp data fetch {dataset}" if hasattr(source, "fetch") else None


def _seconds(sweep: pd.DataFrame) -> float | None:
    """What the runs of sweeps took together."""
    seconds = sweep.drop_duplicates("sweep_run")["seconds"]
    return float(seconds.sum()) if seconds.notna().all() else None
