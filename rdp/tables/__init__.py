"""Load the tables of a study, from which figures and pages are made."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rdp import models
from rdp.errors import UserError
from rdp.study import Plan, comparisons
from rdp.study.comparisons import Setting
from rdp.tables import collect, measurements
from rdp.utils import sealed


@dataclass(frozen=True)
class Tables:
    """The tables of a study."""

    plan: Plan  # the study
    records: pd.DataFrame  # one row per run
    history: pd.DataFrame  # one row per run and epoch
    sweep: pd.DataFrame  # one row per run of a sweep
    results: Path  # the results directory

    @property
    def labels(self) -> list[str]:
        """The methods that some cell trains, in the study's order."""
        trained = {cell.label for cell in self.plan.cells}
        return [label for label in self.plan.study.methods if label in trained]

    @property
    def baseline(self) -> str | None:
        """Name of the method that others are compared with."""
        return comparisons.baseline(self.plan)

    def baseline_of(self, setting: Setting) -> str | None:
        """The label of the baseline in a setting; None if no cell there trains it."""
        return comparisons.baseline_label(self.plan, comparisons.cells(self.plan).get(setting, []))

    def probe(self, name: str) -> pd.DataFrame:
        """The table of a probe."""
        return measurements.read(self.plan.name, name, self.results)

    def speed(self) -> pd.DataFrame:
        """The throughput of the study's methods, as written by `rdp.bench.throughput.write`."""
        path = self.results / self.plan.name / "speed.parquet"
        return sealed.read_table(path, self.plan.name, f"run: rdp speed {self.plan.name}")[0]

    def panels(self, table: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
        """The rows of each setting that has any, in the study's order; an empty table is repeated for all settings."""
        groups = comparisons.cells(self.plan)
        if not len(table):
            return [(setting, table) for setting in groups]
        cell_ids = table["run"].str.replace(r"/.*", "", regex=True)
        panels = [(setting, table[cell_ids.isin([cell.id for cell in cells])]) for setting, cells in groups.items()]
        return [(setting, rows) for setting, rows in panels if len(rows)]

    def depths(self, table: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
        """As `panels`, with the study's first architecture of each family and depth."""
        panels: dict[tuple[str, str, int, str], tuple[Setting, pd.DataFrame]] = {}
        for setting, rows in self.panels(table):
            architecture = models.architecture(setting.architecture)
            key = (setting.dataset, architecture.family, architecture.depth, setting.recipe)
            panels.setdefault(key, (setting, rows))
        return list(panels.values())

    def methods(self, rows: pd.DataFrame) -> list[str]:
        """The methods of a table's rows, in the study's order."""
        found = set(rows["method"])
        return [label for label in self.labels if label in found]

    def absent(self) -> str:
        """A sentence on the number of runs without numbers; empty if there are none."""
        counts = self.records["status"].value_counts()
        parts = [f"{counts[s]} of {len(self.records)} runs {s}" for s in ("failed", "missing") if s in counts]
        return f"Not drawn: {', '.join(parts)}." if parts else ""


def load(plan: Plan, results: Path) -> Tables:
    """The tables of a study, as written by `rdp.tables.collect.write`.

    Raises:
        UserError: a table is absent, damaged or written by another version of rdp, or the study's file has changed.
    """
    tables, path = collect.read(plan.name, results), results / plan.name / "records.parquet"
    remedy = f"run: rdp collect {plan.name}"
    if missing := collect.missing_columns(tables):
        raise UserError(f"{path}: written by another version of rdp, without {', '.join(missing)}; {remedy}")
    if tables[0]["run"].tolist() != [spec.run for spec in plan.specs]:
        raise UserError(f"{path}: its runs are not those of {plan.file}; {remedy}")
    return Tables(plan, *tables, results)
