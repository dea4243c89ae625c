"""What the numbers say, in words that follow from them."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from rdp import data
from rdp.stats import Estimate, mean_interval, paired_difference
from rdp.study import Plan, comparisons
from rdp.study.comparisons import Setting
from rdp.utils.humanize import PERCENT, count

_MANY = 10  # methods of a setting that a sentence still lists


@dataclass(frozen=True)
class CellSummary:
    """The runs of one cell, summed up.

    Attributes:
        accuracy: test accuracy over seeds, in percent; diverged runs at chance, failed and missing ones left out.
        difference: to the baseline's runs of the same setting and seeds, in points; None for the baseline itself, or
            where the setting has none.
        method, name, options: what the study calls the method, which one it is, and its options as JSON.
        counts: runs by status.
        seeds: runs that the study asks for.
        budget: what the recipe's epochs stand for, see `Recipe.budget`.
        learning_rates: the rates that the runs trained with, one unless stacks chose differently.
        steps: optimizer steps of a run, the mean over runs.
        step_cost: counted operations of a step, as a multiple of the baseline's.
        flops: counted operations of a run, as a multiple of the baseline's.
        updates: updates of a unit's parameter in a run, as a multiple of the baseline's.
        throughput: training examples a second, the median of completed runs.
        throughput_ratio: to the baseline's; NaN where the two were not measured on the same one device.
    """

    setting: Setting
    method: str
    accuracy: Estimate
    difference: Estimate | None
    counts: dict[str, int]
    seeds: int
    name: str
    options: str
    budget: str
    learning_rates: list[float]
    steps: float
    step_cost: float
    flops: float
    updates: float
    parameters: float
    forward_flops: float
    throughput: float
    throughput_ratio: float
    seconds: float


def cells(plan: Plan, records: pd.DataFrame) -> list[CellSummary]:
    """One summary a cell, in the study's order."""
    runs = dict(list(records.groupby("cell", sort=False)))
    found = comparisons.by_cell(plan)
    baselines: dict[Setting, pd.DataFrame] = {}
    for cell in plan.cells:
        if comparisons.baseline_label(plan, [cell]):
            baselines.setdefault(found[cell.id], runs[cell.id])
    return [_summarise(found[cell.id], cell.label, runs[cell.id], baselines.get(found[cell.id])) for cell in plan.cells]


def _summarise(setting: Setting, label: str, runs: pd.DataFrame, baseline: pd.DataFrame | None) -> CellSummary:
    is_baseline = baseline is not None and baseline["cell"].iloc[0] == runs["cell"].iloc[0]
    difference = None
    if baseline is not None and not is_baseline:
        difference = paired_difference(by_seed(runs), by_seed(baseline))
    speed, device = _speed(runs)
    reference, other = _speed(baseline) if baseline is not None else (math.nan, None)
    # A diverged run stopped on the way: what it cost is not what the method costs.
    done = runs[runs["status"] == "completed"]
    base = baseline[baseline["status"] == "completed"] if baseline is not None else done.iloc[:0]
    return CellSummary(
        setting=setting,
        method=label,
        accuracy=mean_interval(list(by_seed(runs).values())),
        difference=difference,
        counts=runs["status"].value_counts().to_dict(),
        seeds=len(runs),
        name=runs["method_name"].iloc[0],
        options=runs["options"].iloc[0],
        budget=json.loads(runs["recipe"].iloc[0])["budget"],
        learning_rates=sorted(runs["learning_rate"].dropna().unique()),
        steps=done["steps"].mean(),
        step_cost=(done["training_flops"] / done["steps"]).mean() / (base["training_flops"] / base["steps"]).mean(),
        flops=done["training_flops"].mean() / base["training_flops"].mean(),
        updates=done["unit_updates"].mean() / base["unit_updates"].mean(),
        parameters=runs["parameters"].max(),
        forward_flops=runs["forward_flops"].max(),
        throughput=speed,
        throughput_ratio=speed / reference if device is not None and device == other else math.nan,
        seconds=runs["seconds"].median(),
    )


BUDGETS = ("steps", "flops", "updates")


def by_budget(cells: list[CellSummary]) -> list[dict[str, CellSummary | Setting | None]]:
    """Methods that a study trains at more than one budget: a row a setting and method, its cells by budget."""
    found: dict[tuple[Setting, str, str], dict[str, CellSummary]] = {}
    for cell in cells:
        found.setdefault((cell.setting, cell.name, cell.options), {}).setdefault(cell.budget, cell)
    return [
        {"setting": setting, "method": name} | {budget: by.get(budget) for budget in BUDGETS}
        for (setting, name, _), by in found.items()
        if len(by) > 1
    ]


def by_seed(runs: pd.DataFrame) -> dict[int, float]:
    """Accuracy in percent by seed, for the runs that have one."""
    there = runs[runs["accuracy"].notna()]
    return dict(zip(there["seed"], there["accuracy"] * PERCENT, strict=True))


def _speed(runs: pd.DataFrame) -> tuple[float, str | None]:
    """Median examples a second of completed runs, and their device; None where they had several, or none ran."""
    done = runs[(runs["status"] == "completed") & runs["examples_per_second"].notna()]
    devices = done["device"].dropna().unique()
    return done["examples_per_second"].median(), devices[0] if len(devices) == 1 else None


def sentences(summaries: list[CellSummary], baseline: str | None) -> Iterator[str]:
    """The summary, a sentence or two a dataset and architecture; ``baseline`` as it is called, where there is one."""
    groups: dict[Setting, list[CellSummary]] = {}
    for summary in summaries:
        groups.setdefault(summary.setting, []).append(summary)
    for setting, group in groups.items():
        measured = [summary for summary in group if summary.accuracy.n]
        told = _means(measured) + _against_baseline(measured, baseline) if measured else "no run has finished yet. "
        yield f"{setting.title}: {told}{_ended(group)}".strip()


def _means(group: list[CellSummary]) -> str:
    sizes = sorted({s.accuracy.n for s in group})
    seeds = f"{sizes[0]} to {sizes[-1]} seeds" if len(sizes) > 1 else count(sizes[0], "seed")
    ranked = sorted(group, key=lambda summary: -summary.accuracy.mean)
    own = {s.method: f" ({count(s.accuracy.n, 'seed')})" if len(sizes) > 1 else "" for s in group}
    each = [f"{s.method} {percent(s.accuracy)}{own[s.method]}" for s in ranked]
    told = ", ".join(each) if len(each) <= _MANY else f"{len(each)} methods, from {each[0]} down to {each[-1]}"
    interval = " and 95 % interval" if any(s.accuracy.has_interval for s in group) else ""
    chance = PERCENT * data.info(group[0].setting.dataset).chance
    return f"{told} (mean test accuracy{interval} over {seeds}; chance is {chance:.0f} %). "


def _against_baseline(group: list[CellSummary], baseline: str | None) -> str:
    compared = [s for s in group if s.difference is not None]
    known = [s for s in compared if s.difference.has_interval]
    told = {
        f"came out above {baseline}": [s for s in known if s.difference.excludes(0) and s.difference.mean > 0],
        f"came out below {baseline}": [s for s in known if s.difference.excludes(0) and s.difference.mean < 0],
        f"no difference to {baseline} shown": [s for s in known if not s.difference.excludes(0)],
        "one pair of runs, so no interval and nothing to tell": [s for s in compared if s.difference.n == 1],
        f"no seed shared with {baseline}, so not compared": [s for s in compared if s.difference.n == 0],
    }
    parts = [f"{words}: {', '.join(map(_difference, members))}" for words, members in told.items() if members]
    return f"Paired by seed, {'; '.join(parts)}. " if parts else ""


def _difference(summary: CellSummary) -> str:
    return f"{summary.method} ({points(summary.difference)})" if summary.difference.n else summary.method


def _ended(group: list[CellSummary]) -> str:
    """How many runs did not complete, by what became of them."""
    told = (
        ("diverged", "diverged, counted at chance"),
        ("failed", "failed, left out"),
        ("missing", "missing, left out"),
    )
    alike: dict[tuple[str, int, int], list[str]] = {}
    for status, words in told:
        for s in group:
            if n := s.counts.get(status, 0):
                alike.setdefault((words, n, s.seeds), []).append(s.method)
    parts = [
        f"{words}: {n} of {seeds} runs of {'each of ' if len(methods) > 1 else ''}{', '.join(methods)}"
        for (words, n, seeds), methods in alike.items()
    ]
    return f"Runs that did not complete: {'; '.join(parts)}. " if parts else ""


def percent(estimate: Estimate) -> str:
    """``96.4 % [95.9, 96.9]``, or without the interval where there is none."""
    return _interval(estimate, "{:.1f} %", "{:.1f}")


def points(estimate: Estimate) -> str:
    """``+0.5 points [-0.1, +1.1]``, or without the interval where there is none."""
    # An interval that leaves 0 out must not read as one that ends there.
    ends_at_zero = estimate.excludes(0) and min(abs(estimate.low), abs(estimate.high)) < 0.05
    digits = 2 if ends_at_zero else 1
    return _interval(estimate, f"{{:+.{digits}f}} points", f"{{:+.{digits}f}}")


def _interval(estimate: Estimate, mean: str, end: str) -> str:
    if not estimate.n:
        return "none"
    told = mean.format(estimate.mean)
    if estimate.has_interval:
        told += f" [{end.format(estimate.low)}, {end.format(estimate.high)}]"
    return told.replace("-", "\u2212")
