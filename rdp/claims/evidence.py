"""Evidence for one part of a claim in one setting: an effect, seed by seed, and the runs behind it."""

import math
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rdp import data
from rdp.claims.model import Part
from rdp.data import prepared
from rdp.errors import UserError
from rdp.stats import Effect, IntervalEffect, accuracy_difference
from rdp.store import Store, origin
from rdp.study import Cell, is_baseline
from rdp.tables import Tables
from rdp.tables.collect import usable_record
from rdp.utils.humanize import PERCENT

Array = NDArray[Any]

_NO_NUMBER = "the run has no such number"
_ABOVE_CHANCE = 5.0  # points above chance from which a method counts as having learned


@dataclass(frozen=True)
class Evidence:
    """The effect of a part of a claim in one setting, and the runs it is computed from.

    Attributes:
        effect: one number per seed.
        seeds: the seeds of these numbers.
        runs: the names of the runs behind each seed's number.
        first, second: the metric of each method by seed; ``second`` is empty if there is only one method.
        measured_on, measured_at: for throughput, the runs whose networks were timed, and the time.
        diverged: the number of diverged runs.
        left_out: the runs without a number, with the reasons.
        uninformative: why equality of the two methods would show nothing, or None.
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
    uninformative: str | None = None
    absent: str | None = None


@dataclass(frozen=True)
class _SeedValues:
    """One number per seed of a cell with the runs behind it, and the runs without a number with the reasons."""

    numbers: dict[int, float]
    runs: dict[int, tuple[str, ...]]
    left_out: dict[str, str]


class Records:
    """The tables of a study and the predictions in its store, from which evidence is computed."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.store = Store(tables.results)
        self._correct: dict[str, Array] = {}
        self._labels = cache(lambda dataset: _labels(dataset, tables.results))
        self._probe = cache(tables.probe)

    def evidence(self, part: Part, cell: Cell, other: Cell | None) -> Evidence:
        """The evidence for one part of a claim: the metric of ``cell``, compared with ``other`` if given."""
        definition = part.definition
        if definition.probe and definition.probe not in self.tables.plan.study.probes:
            return _absent(f"the study has no probe {definition.probe}")
        if part.metric == "throughput":
            return self._throughput(cell, other)
        if part.metric == "loss_at_best_rate" and not cell.specs[0].tuning:
            return _absent("no sweep of learning rates in this setting")
        values = [self._values(part, each) for each in (cell, other) if each is not None]
        seeds = tuple(seed for seed in values[0].numbers if all(seed in each.numbers for each in values))
        numbers = [tuple(each.numbers[seed] for seed in seeds) for each in values]
        if other is None:
            chained = part.metric == "redundancy_beyond_chance"
            effect = Effect(numbers[0], inflation=_chain_factor(len(seeds)) if chained else 1.0)
        elif part.metric == "accuracy":
            effect = self._accuracy(cell, other, seeds)
        else:
            effect = Effect(tuple(a / b - 1 if definition.relative else a - b for a, b in zip(*numbers, strict=True)))
        runs = tuple(tuple(run for each in values for run in each.runs[seed]) for seed in seeds)
        left_out = {run: reason for each in values for run, reason in each.left_out.items()}
        for each in values:
            unpaired = (run for seed, names in each.runs.items() if seed not in seeds for run in names)
            left_out |= dict.fromkeys(unpaired, "the other method's run of this seed has no number")
        return Evidence(
            effect,
            seeds,
            runs,
            numbers[0],
            numbers[1] if len(numbers) > 1 else (),
            diverged=sum(run in self._diverged for names in runs for run in names),
            left_out=left_out,
            uninformative=self._uninformative(part, cell, runs, numbers),
            absent=None if seeds else "no run has a number yet",
        )

    def _uninformative(
        self, part: Part, cell: Cell, runs: tuple[tuple[str, ...], ...], numbers: list[tuple[float, ...]]
    ) -> str | None:
        """Why equal accuracy would show nothing: two methods that learned nothing are trivially on par."""
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
        return dict(list(self.tables.records.groupby("cell", sort=False)))

    @cached_property
    def _diverged(self) -> frozenset[str]:
        runs, sweep = self.tables.records, self.tables.sweep
        return frozenset(runs[runs["status"] == "diverged"]["run"]) | frozenset(
            sweep[sweep["status"] == "diverged"]["sweep_run"]
        )

    def _values(self, part: Part, cell: Cell) -> _SeedValues:
        if part.metric == "loss_at_best_rate":
            return self._swept(cell)
        records, probe = self._by_cell[cell.id], part.definition.probe
        missing = "not probed: diverged, or a seed that the study does not probe" if probe else _NO_NUMBER
        rows = self._measurements(probe, part, cell) if probe else records
        compute = part.definition.compute
        if compute is None:
            raise ValueError(f"the metric {part.metric} has no function that computes it")
        numbers = compute(rows, cell, self.tables).dropna()
        runs: dict[int, tuple[str, ...]] = {}
        left_out = {}
        for row in records[["run", "seed", "status", "reason"]].itertuples():
            if row.seed in numbers.index:
                runs[row.seed] = (row.run,)
            else:
                left_out[row.run] = _reason(row, missing)
        return _SeedValues({seed: float(numbers[seed]) for seed in runs}, runs, left_out)

    def _measurements(self, probe: str, part: Part, cell: Cell) -> pd.DataFrame:
        rows = self._probe(probe)
        return rows[(rows["run"].str.startswith(f"{cell.id}/")) & (rows["stage"] == part.stage)]

    def _swept(self, cell: Cell) -> _SeedValues:
        """The training loss at the sweep's best rate and gain over the loss of guessing, by the sweep's seeds."""
        rows = self.tables.sweep[self.tables.sweep["run"] == cell.specs[0].run]
        guessing = math.log(data.info(cell.dataset).classes)
        # A diverged run has learned nothing, whatever the loss of its last epoch.
        share = (rows["train_loss"] / guessing).where(rows["status"] != "diverged", 1.0)
        numbers = rows.assign(share=share).dropna(subset=["share"])
        by_seed = {int(seed): runs for seed, runs in numbers.groupby("seed")}
        return _SeedValues(
            {seed: float(runs["share"].min()) for seed, runs in by_seed.items()},
            {seed: tuple(runs["sweep_run"]) for seed, runs in by_seed.items()},
            {row.sweep_run: _reason(row, _NO_NUMBER) for row in rows[~rows.index.isin(numbers.index)].itertuples()},
        )

    def _accuracy(self, cell: Cell, other: Cell, seeds: tuple[int, ...]) -> Effect:
        if not seeds:
            return Effect(())
        first, second = (np.stack([self._predictions(each, seed) for seed in seeds]) for each in (cell, other))
        return accuracy_difference(first, second, scale=PERCENT)

    def _predictions(self, cell: Cell, seed: int) -> Array:
        """1 for each test example that a run predicts correctly, else 0, shape (m,); chance for a diverged run."""
        spec = next(spec for spec in cell.specs if spec.seed == seed)
        if spec.run not in self._correct:
            labels = self._labels(cell.dataset)
            record, problem = usable_record(self.store, spec)
            if record is None:
                raise UserError(f"{spec.run}: {problem}; run: rdp collect {self.tables.plan.name}")
            if record.status == "diverged":
                correct = np.full(len(labels), data.info(cell.dataset).chance, np.float32)
            else:
                predictions = self.store.arrays(spec.run, record, "predictions")["test"]
                correct = (predictions == labels).astype(np.float32)
            self._correct[spec.run] = correct
        return self._correct[spec.run]

    def _throughput(self, cell: Cell, other: Cell | None) -> Evidence:
        """Training throughput over the baseline's minus 1, timed in alternation."""
        if not self.tables.plan.study.speed_rounds:
            return _absent("the study measures no throughput (speed_rounds)")
        rows = self.tables.speed()
        row = rows[rows["run"] == cell.specs[0].run]
        if other is None or not is_baseline(self.tables.plan.study, other):
            return _absent("throughput is measured against the study's baseline, which is another method")
        if row.empty:
            return _absent("its throughput was not measured")
        timing = row.iloc[0]
        centre, low, high = (timing[name] - 1 for name in ("median", "low", "high"))
        effect = IntervalEffect(centre=centre, low=low, high=high, rounds=int(timing["rounds"]))
        measured = timing["measured"] if isinstance(timing.get("measured"), str) else None
        return Evidence(effect, measured_on=(cell.specs[0].run, other.specs[0].run), measured_at=measured)


def _labels(dataset: str, results: Path) -> Array:
    """The labels of a dataset's test split, shape (m,), all that recorded results hold of a dataset."""
    if origin.is_recorded(results):
        return origin.labels(dataset, results)
    return prepared.load(dataset, results).labels("test")


def _chain_factor(n: int) -> float:
    """An upper bound on the error of redundancy beyond chance over that of n independent numbers.

    Each seed's reference is the similarity to the next seed's network; the last seed's is to the first. In the worst
    case a number is a sum of contributions of two neighbours, so neighbours correlate by 1/2. The variance of the mean
    is then twice that of independent numbers, and the sample variance is only (n - 2) / (n - 1) of theirs.
    """
    return math.sqrt(2 * (n - 1) / (n - 2)) if n > 2 else math.inf


def _reason(row: Any, missing: str) -> str:
    """Why a run has no number; ``missing`` for a completed run."""
    return str(row.reason if isinstance(row.reason, str) else missing if row.status == "completed" else row.status)


def _absent(reason: str) -> Evidence:
    return Evidence(Effect(()), absent=reason)
