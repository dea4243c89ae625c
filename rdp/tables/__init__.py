"""What figures and the page are made from: the tables of records, and those of the study's probes."""

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
    """A study's records, their history and its sweeps; on demand the tables of its probes."""

    plan: Plan
    records: pd.DataFrame
    history: pd.DataFrame
    sweep: pd.DataFrame
    results: Path

    @property
    def labels(self) -> list[str]:
        """The study's methods, in its order; those alone that some cell trains."""
        there = {cell.label for cell in self.plan.cells}
        return [label for label in self.plan.study.methods if label in there]

    @property
    def baseline(self) -> str | None:
        """What others are compared with, as it is called."""
        return comparisons.baseline(self.plan)

    def baseline_of(self, setting: Setting) -> str | None:
        """The baseline in a setting."""
        return comparisons.baseline_label(self.plan, comparisons.cells(self.plan).get(setting, []))

    def probe(self, name: str) -> pd.DataFrame:
        """The table of one of the study's probes."""
        return measurements.read(self.plan.name, name, self.results)

    def speed(self) -> pd.DataFrame:
        """The throughput of the study's methods, as `rdp.bench.throughput.write` left it."""
        path = self.results / self.plan.name / "speed.parquet"
        return sealed.read_table(path, self.plan.name, f"run: rdp speed {self.plan.name}")[0]

    def panels(self, table: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
        """The rows of each setting, in the study's order; a table without rows belongs to all of them."""
        groups = comparisons.cells(self.plan)
        if not len(table):
            return [(setting, table) for setting in groups]
        name = table["run"].str.replace(r"/.*", "", regex=True)  # a run's name is its cell's, and its seed
        return [(setting, table[name.isin([cell.id for cell in cells])]) for setting, cells in groups.items()]

    def depths(self, table: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
        """As `panels`, with one width a depth: the first of the study, where it has several."""
        found: dict[tuple[str, str, int, str], tuple[Setting, pd.DataFrame]] = {}
        for setting, rows in self.panels(table):
            architecture = models.architecture(setting.architecture)
            key = (setting.dataset, architecture.family, architecture.depth, setting.recipe)
            found.setdefault(key, (setting, rows))
        return list(found.values())

    def absent(self) -> str:
        """How many runs left no numbers, in words."""
        counts = self.records["status"].value_counts()
        parts = [f"{counts[s]} of {len(self.records)} runs {s}" for s in ("failed", "missing") if s in counts]
        return f"Not drawn: {', '.join(parts)}." if parts else ""


def load(plan: Plan, results: Path) -> Tables:
    """The tables of a study, as `rdp.tables.collect.write` left them.

    Raises:
        UserError: a table that is absent or damaged, of an earlier version, or of the study as it was before
            its file changed.
    """
    read, path = collect.read(plan.name, results), results / plan.name / "records.parquet"
    if absent := collect.lacking(read):
        raise UserError(f"{path}: of an earlier version, without {', '.join(absent)}; run: rdp collect {plan.name}")
    found = Tables(plan, *read, results)
    if found.records["run"].tolist() != [spec.run for spec in plan.specs]:
        raise UserError(f"{path}: its runs are not those of {plan.file}; run: rdp collect {plan.name}")
    return found
