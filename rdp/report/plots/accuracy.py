"""Figures of accuracy: by method, relative to the baseline, by depth, and over training."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rdp import data as datasets
from rdp import models
from rdp.report import style
from rdp.report.plots import common
from rdp.report.summary import by_seed, has_norms
from rdp.stats import mean_interval, paired_difference
from rdp.tables import Tables
from rdp.utils.humanize import PERCENT

FIGURES: dict[str, dict[str, str]] = {
    "accuracy": {},
    "differences": {"needs": "baseline"},
    "training_curves": {},
    "accuracy_by_depth": {},
}
_NEAR = 5.0  # smallest range of an axis of differences, in points


def accuracy(tables: Tables) -> common.Drawing:
    """Test accuracy of every seed, with mean and interval."""
    panels = tables.panels(tables.records)
    named = [tables.methods(runs) for _, runs in panels]
    figure, axes = common.grid(len(panels), lines=[len(labels) for labels in named])
    looks, rows = style.looks(tables.labels), []
    for axis, (setting, runs), labels in zip(axes, panels, named, strict=True):
        axis.axvline(datasets.info(setting.dataset).chance * PERCENT, color="0.5", linewidth=1, linestyle=":")
        for place, label in enumerate(labels):
            mine = runs[(runs["method"] == label) & runs["accuracy"].notna()]
            look, diverged = looks[label], mine["status"] == "diverged"
            spread = common.spread(place, len(mine))
            x = mine["accuracy"].to_numpy() * PERCENT
            axis.scatter(x[~diverged], spread[~diverged], s=18, marker=look.marker, color=look.colour, alpha=0.45)
            axis.scatter(x[diverged], spread[diverged], s=30, marker="x", color=look.colour)
            estimate = mean_interval(mine["accuracy"].to_numpy())
            common.interval(axis, place, estimate, look, PERCENT)
            for value, seed, status in zip(mine["accuracy"], mine["seed"], mine["status"], strict=True):
                key = setting.key | {"method": label}
                rows.append(key | {"seed": seed, "status": status, "accuracy": value, "mean": estimate.mean})
                rows[-1] |= {"low": estimate.low, "high": estimate.high}
        common.rows_of_methods(axis, labels)
        axis.set_xlim(common.within_percent(*axis.get_xlim()))
        axis.set_title(setting.title)
        axis.set_xlabel("test accuracy (%)")
    crosses = "Crosses: diverged runs, at chance. " if (tables.records["status"] == "diverged").any() else ""
    style.note(figure, f"Dotted: chance. {crosses}{tables.absent()}")
    columns = ["dataset", "architecture", "recipe", "method", "seed", "status", "accuracy", "mean", "low", "high"]
    return common.Drawing(figure, pd.DataFrame(rows, columns=columns))


def differences(tables: Tables) -> common.Drawing:
    """Difference of each method to the baseline, paired by seed, with interval."""
    panels = tables.panels(tables.records)
    compared = [[m for m in tables.methods(runs) if m != tables.baseline_of(setting)] for setting, runs in panels]
    figure, axes = common.grid(len(panels), lines=[len(others) for others in compared])
    looks, rows = style.looks(tables.labels), []
    for axis, (setting, runs), others in zip(axes, panels, compared, strict=True):
        name = tables.baseline_of(setting)
        baseline = by_seed(runs[runs["method"] == name])
        estimates = {label: paired_difference(by_seed(runs[runs["method"] == label]), baseline) for label in others}
        axis.axvline(0, color="0.3", linewidth=1)
        for place, (label, estimate) in enumerate(estimates.items()):
            mine, look = by_seed(runs[runs["method"] == label]), looks[label]
            pairs = {seed: mine[seed] - baseline[seed] for seed in sorted(mine.keys() & baseline.keys())}
            heights = common.spread(place, len(pairs))
            axis.scatter(list(pairs.values()), heights, s=14, marker=look.marker, color=look.colour, alpha=0.35)
            common.interval(axis, place, estimate, look)
            key: dict[str, Any] = setting.key | {"method": label}
            interval = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
            rows += [key | {"seed": seed, "points": points} | interval for seed, points in pairs.items()]
        common.rows_of_methods(axis, others)
        _name_those_far_off(axis, [estimate.mean for estimate in estimates.values()])
        axis.set_title(setting.title)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.set_xlabel(f"test accuracy minus {tables.baseline}'s (points)")
    style.note(figure, f"Paired by seed. Points outside the axis are in the data file. {tables.absent()}")
    columns = ["dataset", "architecture", "recipe", "method", "seed", "points", "mean", "low", "high"]
    return common.Drawing(figure, pd.DataFrame(rows, columns=columns))


def _name_those_far_off(axis: Axes, means: list[float]) -> None:
    """Limit the axis to the bulk of the methods, and write the means of outliers at the edge of their rows."""
    sizes = np.abs(means)
    reach = max(_NEAR, 3 * float(np.nanmedian(sizes))) if np.isfinite(sizes).any() else _NEAR
    far = [place for place, size in enumerate(sizes) if size > 1.5 * reach]
    if not far:
        return
    low, high = axis.get_xlim()
    low, high = max(low, -1.5 * reach), min(high, 1.5 * reach)
    axis.set_xlim(low, high)
    for place in far:
        left = means[place] < 0
        text = f"◂ {means[place]:+z.0f}" if left else f"{means[place]:+z.0f} ▸"
        text = text.replace("-", "\u2212")
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
        axis.text(low if left else high, place, text, va="center", ha="left" if left else "right", bbox=box)


def training_curves(tables: Tables) -> common.Drawing:
    """Training loss and validation accuracy by epoch, mean and range over seeds."""
    # A run of one epoch has no curve.
    panels = [(setting, epochs) for setting, epochs in tables.panels(tables.history) if epochs["epoch"].max() > 1]
    figure, axes = common.pairs(max(len(panels), 1))
    looks, rows = style.looks(tables.labels), []
    shown = (("train_loss", 1.0, "training loss"), ("validation_accuracy", PERCENT, "validation accuracy (%)"))
    for pair, (setting, epochs) in zip(axes, panels, strict=False):
        for axis, (quantity, factor, name) in zip(pair, shown, strict=True):
            values = epochs[epochs[quantity].notna()]
            by = values.groupby(["method", "epoch"], sort=True)[quantity].agg(["mean", "min", "max", "count"])
            for label in tables.labels:
                if label not in by.index.get_level_values(0):
                    continue
                common.line(axis, by.loc[label], looks[label], label, factor)
            rows.append(by.reset_index().assign(**setting.key, quantity=quantity))
            axis.set_ylabel(name)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set_xlim(0, 1.04 * epochs["epoch"].max())  # of both, since validation can come once
        if (epochs["train_loss"] > 0).any():
            common.log_scale(pair[0])
        pair[0].set_title(setting.title)
        pair[1].set_xlabel("epoch")
    common.legend(figure, [axis for pair in axes for axis in pair], tables.labels)
    stopped = int((tables.records["status"] == "diverged").sum())
    ended = f"Diverged runs end early ({stopped}). " if stopped else ""
    style.note(figure, f"Lines: mean over seeds. Bands: lowest to highest seed. {ended}{tables.absent()}")
    columns = ["method", "epoch", "mean", "min", "max", "count", "dataset", "architecture", "recipe", "quantity"]
    return common.drawing(figure, rows, columns)


def accuracy_by_depth(tables: Tables) -> common.Drawing:
    """Test accuracy against depth, one line per method."""
    drawn = tables.records[(tables.records["depth"] > 0) & tables.records["accuracy"].notna()]
    normed = drawn["architecture"].map(has_norms).astype(bool)
    drawn = drawn[normed] if normed.any() else drawn
    # A line joins depths of one family and recipe, since families count layers differently.
    groups: dict[tuple[str, str, str], list[pd.DataFrame]] = {}
    for setting, runs in tables.depths(drawn):
        family = models.architecture(setting.architecture).family
        groups.setdefault((setting.dataset, family, setting.recipe), []).append(runs)
    figure, axes = common.column(len(groups))
    looks, rows = style.looks(tables.labels), []
    for axis, ((dataset, family, recipe), parts) in zip(axes, groups.items(), strict=True):
        table = pd.concat(parts)
        depths = sorted(table["depth"].unique())
        for place, label in enumerate(tables.labels):
            mine = table[table["method"] == label]
            points = [(d, mean_interval(mine.loc[mine["depth"] == d, "accuracy"].to_numpy())) for d in depths]
            points = [(d, estimate) for d, estimate in points if estimate.n]
            if not points:
                continue
            # Shifted sideways so that intervals do not overlap.
            x = np.array([depths.index(d) for d, _ in points]) + 0.03 * (place - (len(tables.labels) - 1) / 2)
            common.errorbars(axis, x, [estimate for _, estimate in points], looks[label], label)
            key = {"dataset": dataset, "family": family, "recipe": recipe, "method": label}
            rows += [key | {"depth": d, "mean": e.mean, "low": e.low, "high": e.high, "seeds": e.n} for d, e in points]
        axis.axhline(PERCENT * datasets.info(dataset).chance, color="0.5", linewidth=1, linestyle=":")
        axis.set_xticks(range(len(depths)), [str(d) for d in depths])
        reach = 0.1 + 0.015 * len(tables.labels)
        axis.set_xlim(-reach, len(depths) - 1 + reach)
        axis.set_ylim(common.within_percent(*axis.get_ylim()))
        axis.set_title(f"{family} on {dataset}" + (f", {recipe}" if recipe else ""))
        axis.set_xlabel("depth")
        axis.set_ylabel("test accuracy (%)")
    common.legend(figure, axes, tables.labels)
    spans = drawn.groupby("depth")["steps"].agg(["min", "max"]).dropna().map("{:,.0f}".format)
    texts = [f"{' to '.join(dict.fromkeys(span))} at depth {depth}" for depth, span in spans.T.items()]
    steps = "; ".join(texts) or "none"
    style.note(figure, f"Bars: 95 % intervals over seeds. Dotted: chance. Steps: {steps}. {tables.absent()}")
    columns = ["dataset", "family", "recipe", "method", "depth", "mean", "low", "high", "seeds"]
    return common.Drawing(figure, pd.DataFrame(rows, columns=columns))
