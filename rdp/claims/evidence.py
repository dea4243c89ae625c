"""Evidence: what a study's records say of one part of a claim in one setting, seed by seed, and the runs behind it."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rdp import data
from rdp.claims import metrics
from rdp.claims.model import Part
from rdp.data import prepared
from rdp.errors import UserError
from rdp.stats import Effect, IntervalEffect, accuracy_difference
from rdp.store import Store, origin
from rdp.study import Cell, is_baseline
from rdp.tables import Tables
from rdp.tables.collect import readable
from rdp.utils.humanize import PERCENT

_ABOVE_CHANCE = 5.0  # points that a method must be above chance, to have learned anything


@dataclass(frozen=True)
class Evidence:
    """The effect that a part speaks of, in one setting, and the runs that it follows from.

    Attributes:
        effect: a number a seed.
        seeds: that it has a number of.
        runs: behind each seed's number, as the store names them.
        first, second: the metric of either method by seed; ``second`` is empty where there is but one method.
        measured_on, measured_at: the runs whose networks were timed, and when; of throughput alone.
        diverged: how many of the runs diverged.
        left_out: runs without a number, and why.
        idle: why two methods that came out alike would say nothing, or None.
        absent: why there is no number at all, or None.
    """

    effect: Effect
    seeds: tuple[int, ...] = ()
    runs: tuple[tuple[str, ...], ...] = ()
    first: tuple[float, ...] = ()
    second: tuple[float, ...] = ()
    measured_on: tuple[str, ...] = ()
    measured_at: str | None = None
    diverged: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    idle: str | None = None
    absent: str | None = None


@dataclass(frozen=True)
class _Found:
    """A number a seed of one cell, with the runs behind each; and the runs that have none, with the reason."""

    values: dict[int, float]
    runs: dict[int, tuple[str, ...]]
    left_out: dict[str, str]


class Records:
    """Where evidence comes from: the tables of a study, and the predictions in its store."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.store = Store(tables.results)
        self._right: dict[str, np.ndarray] = {}
        self._labels: dict[str, np.ndarray] = {}
        self._probes: dict[str, pd.DataFrame] = {}

    def evidence(self, part: Part, cell: Cell, other: Cell | None) -> Evidence:
        """What the records say of one part of a claim: the metric of ``cell``, against ``other`` where there is one."""
        if part.kind.probe and part.kind.probe not in self.tables.plan.study.probes:
            return _absent(f"the study has no probe {part.kind.probe}")
        if part.metric == "throughput":
            return self._throughput(cell, other)
        if part.metric == "loss_at_best_rate" and not cell.specs[0].tuning:
            return _absent("no learning rate is swept here")
        found = [self._found(part, each) for each in (cell, other) if each is not None]
        seeds = tuple(seed for seed in found[0].values if all(seed in each.values for each in found))
        numbers = [tuple(each.values[seed] for seed in seeds) for each in found]
        if other is None:
            effect = Effect(
                numbers[0], inflation=_ring(len(seeds)) if part.metric == "redundancy_beyond_chance" else 1.0
            )
        elif part.metric == "accuracy":
            effect = self._accuracy(cell, other, seeds)
        else:
            effect = Effect(tuple(a / b - 1 if part.kind.relative else a - b for a, b in zip(*numbers, strict=True)))
        runs = tuple(tuple(run for each in found for run in each.runs[seed]) for seed in seeds)
        left_out = {run: why for each in found for run, why in each.left_out.items()}
        for each in found:
            alone = (run for seed, names in each.runs.items() if seed not in seeds for run in names)
            left_out |= dict.fromkeys(alone, "the other method's run of this seed has no number")
        return Evidence(
            effect,
            seeds,
            runs,
            *numbers,
            diverged=sum(run in self._diverged for names in runs for run in names),
            left_out=left_out,
            idle=self._idle(part, cell, runs, numbers),
            absent=None if seeds else "no run has a number yet",
        )

    def _idle(
        self, part: Part, cell: Cell, runs: tuple[tuple[str, ...], ...], numbers: list[tuple[float, ...]]
    ) -> str | None:
        """Two methods that learned nothing are on par in nothing."""
        if part.metric != "accuracy" or part.direction != "within" or not runs:
            return None
        both = sum(all(run in self._diverged for run in names) for names in runs)
        if both:
            return f"in {both} of {len(runs)} seeds both runs diverged"
        chance = PERCENT * data.info(cell.dataset).chance
        learned = any(np.mean(accuracies) > chance + _ABOVE_CHANCE for accuracies in numbers)
        return None if learned else "neither method is above chance"

    @cached_property
    def _by_cell(self) -> dict[str, pd.DataFrame]:
        """The records of each cell."""
        return dict(list(self.tables.records.groupby("cell", sort=False)))

    @cached_property
    def _diverged(self) -> frozenset[str]:
        """The names of the runs that diverged, of the study and of its sweeps."""
        runs, sweep = self.tables.records, self.tables.sweep
        return frozenset(runs[runs["status"] == "diverged"]["run"]) | frozenset(
            sweep[sweep["status"] == "diverged"]["sweep_run"]
        )

    def _found(self, part: Part, cell: Cell) -> _Found:
        """The metric of a cell's runs by itself."""
        if part.metric == "loss_at_best_rate":
            return self._swept(cell)
        rows = self._by_cell[cell.id]
        if part.kind.probe:
            values = metrics.PROBED[part.metric](self._probed(part, cell), cell)
            silent = "not probed: diverged, or of a seed that the study does not probe"
        else:
            values = metrics.RECORDED[part.metric](rows, self.tables)
            silent = "it left no such number"
        values = values.dropna()
        left_out = {row.run: _why(row, silent) for row in rows.itertuples() if row.seed not in values.index}
        runs = {row.seed: (row.run,) for row in rows.itertuples() if row.seed in values.index}
        return _Found({seed: float(values[seed]) for seed in runs}, runs, left_out)

    def _probed(self, part: Part, cell: Cell) -> pd.DataFrame:
        if part.kind.probe not in self._probes:
            self._probes[part.kind.probe] = self.tables.probe(part.kind.probe)
        rows = self._probes[part.kind.probe]
        return rows[(rows["run"].str.startswith(f"{cell.id}/")) & (rows["stage"] == part.stage)]

    def _swept(self, cell: Cell) -> _Found:
        """The training loss at the sweep's best rate, by the sweep's seeds, as a share of the loss of guessing."""
        rows = self.tables.sweep[self.tables.sweep["run"] == cell.specs[0].run]
        guessing = math.log(data.info(cell.dataset).classes)
        # A run whose loss is not finite has learned nothing, whatever its last epoch was.
        share = (rows["train_loss"] / guessing).where(rows["status"] != "diverged", 1.0)
        there = rows.assign(share=share).dropna(subset=["share"])
        left = rows[~rows.index.isin(there.index)]
        return _Found(
            {int(seed): float(value) for seed, value in there.groupby("seed")["share"].min().items()},
            {int(seed): tuple(found["sweep_run"]) for seed, found in there.groupby("seed")},
            {row.sweep_run: _why(row, "it left no such number") for row in left.itertuples()},
        )

    def _accuracy(self, cell: Cell, other: Cell, seeds: tuple[int, ...]) -> Effect:
        """In points, with the test set's own error."""
        if not seeds:
            return Effect(())
        of = [np.stack([self._rights(each, seed) for seed in seeds]) for each in (cell, other)]
        return accuracy_difference(*of, scale=PERCENT)

    def _rights(self, cell: Cell, seed: int) -> np.ndarray:
        """Whether a run's prediction of each test example is right, shape (m,); chance for a diverged run."""
        spec = next(spec for spec in cell.specs if spec.seed == seed)
        if spec.run not in self._right:
            if cell.dataset not in self._labels:
                self._labels[cell.dataset] = _labels(cell.dataset, self.tables.results)
            labels = self._labels[cell.dataset]
            record, problem = readable(self.store, spec)
            if record is None:
                raise UserError(f"{spec.run}: {problem}; run: rdp collect {self.tables.plan.name}")
            if record.status == "diverged":
                right = np.full(len(labels), data.info(cell.dataset).chance, np.float32)
            else:
                right = (self.store.arrays(spec.run, record, "predictions")["test"] == labels).astype(np.float32)
            self._right[spec.run] = right
        return self._right[spec.run]

    def _throughput(self, cell: Cell, other: Cell | None) -> Evidence:
        """A step's throughput over the baseline's, less 1, from rounds side by side."""
        if not self.tables.plan.study.speed_rounds:
            return _absent("the study measures no throughput (speed_rounds)")
        rows = self.tables.speed()
        row = rows[rows["run"] == cell.specs[0].run]
        if other is None or not is_baseline(self.tables.plan.study, other):
            return _absent("throughput is measured against the study's baseline, which is another")
        if row.empty:
            return _absent("its throughput was not measured")
        found = row.iloc[0]
        centre, low, high = (found[name] - 1 for name in ("median", "low", "high"))
        effect = IntervalEffect(centre=centre, low=low, high=high, rounds=int(found["rounds"]))
        measured = found["measured"] if isinstance(found.get("measured"), str) else None
        return Evidence(effect, measured_on=(cell.specs[0].run, other.specs[0].run), measured_at=measured)


def _labels(dataset: str, results: Path) -> np.ndarray:
    """The labels of a dataset's test split, shape (m,); recorded results have no more of it."""
    if origin.holds(results):
        return origin.labels(dataset, results)
    return prepared.load(dataset, results).labels("test")


def _ring(n: int) -> float:
    """By how much the error of redundancy beyond chance exceeds that of n independent numbers, at most.

    Each seed's reference is the similarity to the next seed's network, the last one's to the first. Were the numbers
    sums of what two neighbours have, neighbours would correlate by 1/2: the variance of the mean would be twice that of
    independent ones, and the spread over seeds would show but (n - 2) / (n - 1) of theirs.
    """
    return math.sqrt(2 * (n - 1) / (n - 2)) if n > 2 else math.inf


def _why(row: Any, silent: str) -> str:
    """Why a run of a table has no number; ``silent`` where it completed and yet has none."""
    return row.reason if isinstance(row.reason, str) else silent if row.status == "completed" else row.status


def _absent(why: str) -> Evidence:
    return Evidence(Effect(()), absent=why)
