"""What the numbers say, in words that follow from them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from rdp import data
from rdp.report.style import PERCENT
from rdp.stats import Estimate, mean_interval, paired_difference
from rdp.study import Plan

BASELINE = "vanilla"


@dataclass(frozen=True)
class CellSummary:
    """The runs of one cell, summed up.

    Attributes:
        accuracy: test accuracy over seeds, in percent; diverged runs at chance, failed and missing ones left out.
        difference: to the baseline's runs of the same seeds, in points; None for the baseline or without one.
        counts: runs by status.
        seeds: runs that the study asks for.
    """

    dataset: str
    architecture: str
    method: str
    accuracy: Estimate
    difference: Estimate | None
    counts: dict[str, int]
    seeds: int
    parameters: float
    forward_flops: float
    throughput: float
    throughput_ratio: float
    seconds: float


def cells(plan: Plan, records: pd.DataFrame) -> list[CellSummary]:
    """One summary a cell, in the study's order."""
    runs = dict(list(records.groupby("cell", sort=False)))
    baselines = {
        (cell.dataset, cell.architecture): runs[cell.id] for cell in plan.cells if cell.specs[0].method == BASELINE
    }
    return [
        _summarise(
            cell.dataset, cell.architecture, cell.label, runs[cell.id], baselines.get((cell.dataset, cell.architecture))
        )
        for cell in plan.cells
    ]


def _summarise(
    dataset: str, architecture: str, label: str, runs: pd.DataFrame, baseline: pd.DataFrame | None
) -> CellSummary:
    is_baseline = baseline is not None and baseline["cell"].iloc[0] == runs["cell"].iloc[0]
    difference = None
    if baseline is not None and not is_baseline:
        difference = paired_difference(_by_seed(runs), _by_seed(baseline))
    speed = runs["examples_per_second"].median()
    reference = baseline["examples_per_second"].median() if baseline is not None else math.nan
    return CellSummary(
        dataset=dataset,
        architecture=architecture,
        method=label,
        accuracy=mean_interval(list(_by_seed(runs).values())),
        difference=difference,
        counts=runs["status"].value_counts().to_dict(),
        seeds=len(runs),
        parameters=runs["parameters"].max(),
        forward_flops=runs["forward_flops"].max(),
        throughput=speed,
        throughput_ratio=speed / reference,
        seconds=runs["seconds"].median(),
    )


def _by_seed(runs: pd.DataFrame) -> dict[int, float]:
    """Accuracy in percent by seed, for the runs that have one."""
    there = runs[runs["accuracy"].notna()]
    return dict(zip(there["seed"], there["accuracy"] * PERCENT, strict=True))


def sentences(summaries: list[CellSummary]) -> Iterator[str]:
    """The summary, a sentence or two a dataset and architecture."""
    groups: dict[tuple[str, str], list[CellSummary]] = {}
    for summary in summaries:
        groups.setdefault((summary.dataset, summary.architecture), []).append(summary)
    for (dataset, architecture), group in groups.items():
        measured = [summary for summary in group if summary.accuracy.n]
        if not measured:
            yield f"{architecture} on {dataset}: no run has finished yet."
            continue
        yield f"{architecture} on {dataset}: {_means(measured)}{_against_baseline(measured)}{_diverged(measured)}"


def _means(group: list[CellSummary]) -> str:
    ranked = sorted(group, key=lambda summary: -summary.accuracy.mean)
    told = ", ".join(f"{s.method} {percent(s.accuracy)}" for s in ranked)
    chance = PERCENT / data.info(group[0].dataset).classes
    return f"{told} (mean test accuracy and 95 % interval; chance is {chance:.0f} %). "


def _against_baseline(group: list[CellSummary]) -> str:
    compared = [s for s in group if s.difference is not None and s.difference.n]
    if not compared:
        return ""
    if not any(s.difference.has_interval for s in compared):
        return f"With one seed there is no interval, and no method can be told from {BASELINE}. "
    above = [s for s in compared if s.difference.excludes(0) and s.difference.mean > 0]
    below = [s for s in compared if s.difference.excludes(0) and s.difference.mean < 0]
    same = [s for s in compared if not s.difference.excludes(0)]
    parts = []
    if above:
        parts.append(f"{_names(above)} came out above {BASELINE} ({_differences(above)})")
    if below:
        parts.append(f"{_names(below)} below {BASELINE} ({_differences(below)})")
    if same:
        parts.append(f"no difference to {BASELINE} is shown for {_names(same)} ({_differences(same)})")
    told = "; ".join(parts)
    return f"Paired by seed, {told}. "


def _diverged(group: list[CellSummary]) -> str:
    count = sum(s.counts.get("diverged", 0) for s in group)
    return f"{count} of {sum(s.seeds for s in group)} runs diverged and are counted at chance. " if count else ""


def _names(group: list[CellSummary]) -> str:
    *head, last = [s.method for s in group]
    return f"{', '.join(head)} and {last}" if head else last


def _differences(group: list[CellSummary]) -> str:
    return ", ".join(points(s.difference) for s in group)


def percent(estimate: Estimate) -> str:
    """``96.4 % [95.9, 96.9]``, or without the interval where there is none."""
    return _interval(estimate, "{:.1f} %", "{:.1f}")


def points(estimate: Estimate) -> str:
    """``+0.5 points [-0.1, +1.1]``, or without the interval where there is none."""
    return _interval(estimate, "{:+.1f} points", "{:+.1f}")


def _interval(estimate: Estimate, mean: str, end: str) -> str:
    if not estimate.n:
        return "none"
    told = mean.format(estimate.mean)
    if estimate.has_interval:
        told += f" [{end.format(estimate.low)}, {end.format(estimate.high)}]"
    return told.replace("-", "\u2212")
