"""Summaries of cells, and sentences that state their results."""

import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rdp import models
from rdp.stats import Estimate, mean_interval, paired_difference
from rdp.study import Plan, comparisons
from rdp.study.comparisons import Setting
from rdp.utils.humanize import PERCENT


@dataclass(frozen=True)
class CellSummary:
    """Summary statistics of the runs of one cell.

    Attributes:
        accuracy: test accuracy over seeds in percent, with diverged runs at chance and without failed and missing runs.
        validation: mean accuracy on the validation split after the last epoch, in percent.
        difference: difference to the baseline's runs of the same setting and seeds, in points; None for the baseline
            and for settings without one.
        method, name, options: the study's name of the method, the method, and its options as JSON.
        counts: number of runs by status.
        seeds: number of runs in the study.
        budget: the meaning of the recipe's epochs, see `Recipe.budget`.
        learning_rates: the learning rates of the runs; several if stacks chose differently.
        norm_gains: the initial norm gains of the runs, likewise.
        steps: mean optimizer steps per run.
        step_cost: counted operations per step, relative to the baseline.
        flops: counted operations per run, relative to the baseline.
        updates: updates of a unit's parameter per run, relative to the baseline.
        activation_bytes: bytes that the forward pass of one example keeps for the backward pass.
        throughput: training examples per second, median of completed runs.
        throughput_ratio: throughput relative to the baseline; NaN if the two ran on different devices.
    """

    setting: Setting
    method: str
    accuracy: Estimate
    validation: float
    difference: Estimate | None
    counts: dict[str, int]
    seeds: int
    name: str
    options: str
    budget: str
    learning_rates: list[float]
    norm_gains: list[float]
    steps: float
    step_cost: float
    flops: float
    updates: float
    parameters: float
    forward_flops: float
    activation_bytes: float
    throughput: float
    throughput_ratio: float
    seconds: float


def cells(plan: Plan, records: pd.DataFrame) -> list[CellSummary]:
    """One summary per cell, in the study's order."""
    runs = dict(list(records.groupby("cell", sort=False)))
    settings = comparisons.by_cell(plan)
    baselines: dict[Setting, pd.DataFrame] = {}
    for cell in plan.cells:
        if comparisons.baseline_label(plan, [cell]):
            baselines.setdefault(settings[cell.id], runs[cell.id])
    return [
        _summarise(settings[cell.id], cell.label, runs[cell.id], baselines.get(settings[cell.id]))
        for cell in plan.cells
    ]


def _summarise(setting: Setting, label: str, runs: pd.DataFrame, baseline: pd.DataFrame | None) -> CellSummary:
    is_baseline = baseline is not None and baseline["cell"].iloc[0] == runs["cell"].iloc[0]
    difference = None
    if baseline is not None and not is_baseline:
        difference = paired_difference(by_seed(runs), by_seed(baseline))
    speed, device = _speed(runs)
    reference, other = _speed(baseline) if baseline is not None else (math.nan, None)
    # A diverged run stopped early, so its cost is not the method's.
    done = runs[runs["status"] == "completed"]
    base = baseline[baseline["status"] == "completed"] if baseline is not None else done.iloc[:0]
    return CellSummary(
        setting=setting,
        method=label,
        accuracy=mean_interval(list(by_seed(runs).values())),
        validation=runs["validation_accuracy"].mean() * PERCENT,
        difference=difference,
        counts=runs["status"].value_counts().to_dict(),
        seeds=len(runs),
        name=runs["method_name"].iloc[0],
        options=runs["options"].iloc[0],
        budget=json.loads(runs["recipe"].iloc[0])["budget"],
        learning_rates=sorted(runs["learning_rate"].dropna().unique()),
        norm_gains=sorted(runs["norm_gain"].dropna().unique()),
        steps=done["steps"].mean(),
        step_cost=(done["training_flops"] / done["steps"]).mean() / (base["training_flops"] / base["steps"]).mean(),
        flops=done["training_flops"].mean() / base["training_flops"].mean(),
        updates=done["unit_updates"].mean() / base["unit_updates"].mean(),
        parameters=runs["parameters"].max(),
        forward_flops=runs["forward_flops"].max(),
        activation_bytes=runs["activation_bytes"].max(),
        throughput=speed,
        throughput_ratio=speed / reference if device is not None and device == other else math.nan,
        seconds=runs["seconds"].median(),
    )


BUDGETS = ("steps", "flops", "updates")


def by_budget(cells: list[CellSummary]) -> list[dict[str, Any]]:
    """Methods that a study trains at several budgets: one row per setting and method, with its cells by budget."""
    groups: dict[tuple[Setting, str, str], dict[str, CellSummary]] = {}
    for cell in cells:
        groups.setdefault((cell.setting, cell.name, cell.options), {}).setdefault(cell.budget, cell)
    return [
        {"setting": setting, "method": name, **{budget: by_budget.get(budget) for budget in BUDGETS}}
        for (setting, name, _), by_budget in groups.items()
        if len(by_budget) > 1
    ]


def has_norms(architecture: str) -> bool:
    """Whether a network has norms; those without are there for the closed forms, and may be hardly trained."""
    return models.architecture(architecture).family != "bare_mlp"


def by_seed(runs: pd.DataFrame) -> dict[int, float]:
    """Accuracy in percent by seed, of the runs that have one."""
    measured = runs[runs["accuracy"].notna()]
    return dict(zip(measured["seed"], measured["accuracy"] * PERCENT, strict=True))


def _speed(runs: pd.DataFrame) -> tuple[float, str | None]:
    """Median examples per second of completed runs, and their device; None if there is not exactly one."""
    done = runs[(runs["status"] == "completed") & runs["examples_per_second"].notna()]
    devices = done["device"].dropna().unique()
    return done["examples_per_second"].median(), devices[0] if len(devices) == 1 else None
