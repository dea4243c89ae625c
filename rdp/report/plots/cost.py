"""Figures of the cost of a training step and of the sweeps of learning rates."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rdp.report import style
from rdp.report.plots import common
from rdp.study.comparisons import Setting
from rdp.tables import Tables
from rdp.utils.humanize import PERCENT

FIGURES = {"cost": {"needs": "baseline"}, "learning_rates": {"needs": "sweep"}}


def cost(tables: Tables) -> common.Drawing:
    """Counted operations and measured time of a training step of each method, relative to the baseline."""
    done = tables.records["status"] == "completed"  # arithmetic on NaN has another speed
    panels = tables.panels(tables.records[done & tables.records["examples_per_second"].notna()])
    named = [tables.methods(runs) for _, runs in panels]
    figure, axes = common.grid(len(panels), lines=[len(labels) for labels in named])
    looks, rows = style.looks(tables.labels), []
    for axis, (setting, runs), labels in zip(axes, panels, named, strict=True):
        baseline = runs[runs["method"] == tables.baseline_of(setting)]
        axis.axvline(1, color="0.3", linewidth=1)
        for place, label in enumerate(labels):
            mine, look = runs[runs["method"] == label], looks[label]
            if baseline.empty:
                continue
            measured = (baseline["examples_per_second"].median() / mine["examples_per_second"]).to_numpy()
            counted = float((mine["training_flops"] / mine["examples"]).mean() / baseline["iteration_flops"].mean())
            heights = common.spread(place, len(measured))
            axis.scatter(measured, heights, s=14, marker=look.marker, color=look.colour, alpha=0.35)
            middle = float(np.median(measured))
            axis.plot([middle, middle], [place - 0.3, place + 0.3], color=look.colour, lw=2)
            axis.scatter([counted], [place], s=70, marker="D", facecolor="white", edgecolor=look.colour, zorder=3)
            key = setting.key | {"method": label, "counted": counted, "measured_median": middle}
            rows += [key | {"measured": value} for value in measured]
        common.rows_of_methods(axis, labels)
        axis.set_xlim(left=0)
        axis.set_title(setting.title)
        axis.set_xlabel(f"cost of a step, relative to {tables.baseline}")
    devices = "; ".join(sorted(tables.records.loc[done, "device"].dropna().unique()))
    marks = f"Diamonds: counted. Points: measured, one per run; bars: median. On {devices or 'no machine yet'}."
    style.note(figure, f"{marks} {tables.absent()}")
    columns = ["dataset", "architecture", "recipe", "method", "counted", "measured_median", "measured"]
    return common.Drawing(figure, pd.DataFrame(rows, columns=columns))


def learning_rates(tables: Tables) -> common.Drawing:
    """Validation accuracy of the sweeps by learning rate and method, one panel per norm gain, and the choices."""
    panels = [
        (setting, gain, runs if gain is None else runs[runs["norm_gain"] == gain])
        for setting, runs in tables.panels(tables.sweep)
        for gain in tables.plan.norm_gains or (None,)
    ]
    figure, axes = common.grid(len(panels))
    looks, rows = style.looks(tables.labels), []
    first: dict[Setting, Axes] = {}  # panel of each setting, with which its others share their scale
    for axis, (setting, gain, runs) in zip(axes, panels, strict=True):
        if setting in first:
            axis.sharey(first[setting])
        first.setdefault(setting, axis)
        for label in tables.labels:
            mine = runs[(runs["method"] == label) & runs["accuracy"].notna()]
            if mine.empty:
                continue
            by = mine.groupby("learning_rate")["accuracy"].agg(["mean", "min", "max", "count"])
            by["norm_gain"] = mine.groupby("learning_rate")["norm_gain"].first()
            common.line(axis, by, looks[label], label, PERCENT)
            by["chosen"] = mine.groupby("learning_rate")["chosen"].first()
            chosen = by.loc[by["chosen"].eq(True), "mean"] * PERCENT  # missing before a cell's first run
            axis.scatter(chosen.index, chosen, s=90, facecolor="none", edgecolor=looks[label].colour, zorder=3)
            rows.append(by.reset_index().assign(**setting.key, method=label))
        rates = sorted(runs["learning_rate"].unique())
        axis.set_xscale("log")
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
        axis.set_xticks([], minor=True)
        axis.set_title(setting.title if gain is None else f"{setting.title}, norm gain {gain:g}")
        axis.set_xlabel("learning rate")
        axis.set_ylabel("validation accuracy (%)")
    common.legend(figure, axes, tables.labels)
    lengths = sorted({cell.specs[0].tuning.recipe.epochs for cell in tables.plan.cells if cell.specs[0].tuning})
    epochs = f"Epochs of a run of the sweep: {', '.join(map(str, lengths))}."
    style.note(figure, f"Lines: mean over the sweep's seeds. Bands: lowest to highest. Circles: chosen. {epochs}")
    columns = ["dataset", "architecture", "recipe", "method", "learning_rate", "norm_gain"]
    return common.drawing(figure, rows, [*columns, "mean", "min", "max", "count", "chosen"])
