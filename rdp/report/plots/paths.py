"""Figures of plain networks and PNNH: dissipating inputs, convergence, coders, efficiency, throughput."""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from rdp import data as datasets
from rdp import models
from rdp.report import style
from rdp.report.plots import common
from rdp.stats import mean_interval
from rdp.tables import Tables
from rdp.tables.collect import COMPARED
from rdp.utils.humanize import count

FIGURES = {
    "convergence": {"needs": "depths"},
    "frontier": {"needs": "widths"},
    "throughput": {"needs": "speed"},
    "dissipation_untrained": {"probe": "dissipating_inputs"},
    "dissipation_trained": {"probe": "dissipating_inputs"},
    "coders": {"probe": "coders"},
}
_OF_CODERS = ["distance", "spectral", "orthogonality"]
_QUANTITIES = {
    "reconstruction": "R² of the input",
    "cka": "CKA to the input",
    "correlation": "correlation of two inputs",
    "rank": "participation ratio",
}


def _dissipation(tables: Tables, stage: str) -> common.Drawing:
    """Four measures of the input's survival by depth, one row per setting and one line per method."""
    table = tables.probe("dissipating_inputs")
    panels = tables.panels(table[table["stage"] == stage])
    figure, grid = plt.subplots(len(panels), 4, figsize=(style.WIDTH, 1.35 * len(panels) + 0.5), squeeze=False)
    looks, rows = style.looks(tables.labels), []
    for line, (setting, values) in zip(grid, panels, strict=True):
        for axis, quantity in zip(line, _QUANTITIES, strict=True):
            for label in tables.labels:
                mine = values[(values["method"] == label) & (values["quantity"] == quantity)]
                for source, of_source in mine.groupby("source", sort=False):
                    by = of_source.groupby("layer")["value"].agg(["mean", "min", "max", "count"])
                    rows.append(by.reset_index().assign(**setting.key, method=label, quantity=quantity, source=source))
                    by.index = by.index / max(by.index.max(), 1)  # paths differ in their number of layers
                    if source == "data":
                        common.line(axis, by, looks[label], label)
                    else:
                        axis.plot(by.index, by["mean"], color=looks[label].colour, linestyle=":", lw=1, alpha=0.6)
            if quantity == "rank":
                common.log_scale(axis)
            elif quantity == "reconstruction":
                axis.set_ylim(-0.1, 1.05)
        line[0].set_ylabel(setting.title.replace(" on ", "\non "))
    for axis, words in zip(grid[0], _QUANTITIES.values(), strict=True):
        axis.set_title(words)
    for axis in grid[-1]:
        axis.set_xlabel("share of the depth")
    common.legend(figure, list(grid.flat), tables.labels)
    style.note(figure, "Dotted: the same networks on noise of equal moments. Lines: mean over seeds. Bands: range.")
    columns = ["dataset", "architecture", "recipe", "method", "quantity", "source", "layer", "mean", "min", "max"]
    return common.drawing(figure, rows, [*columns, "count"])


dissipation_untrained = partial(_dissipation, stage="initial")
dissipation_trained = partial(_dissipation, stage="trained")


def coders(tables: Tables) -> common.Drawing:
    """Distance of each trained coder from the identity, and its largest singular value."""
    table = tables.probe("coders")
    panels = [(s, rows) for s, rows in tables.panels(table[table["stage"] == "trained"]) if len(rows)]
    figure, axes = common.pairs(max(len(panels), 1), lines=[len(tables.labels)] * len(panels))
    looks, rows = style.looks(tables.labels), []
    shown = (("distance", "‖C \u2212 I‖ / √rows"), ("spectral", "largest singular value"))
    for pair, (setting, values) in zip(axes, panels, strict=False):
        labels = [label for label in tables.labels if (values["method"] == label).any()]
        for axis, (quantity, words) in zip(pair, shown, strict=True):
            for place, label in enumerate(labels):
                mine = values.loc[values["method"] == label, quantity].to_numpy()
                heights, look = common.spread(place, len(mine)), looks[label]
                axis.scatter(mine, heights, s=14, marker=look.marker, color=look.colour, alpha=0.45)
                axis.plot([np.median(mine)] * 2, [place - 0.36, place + 0.36], color=look.colour, lw=2)
            common.rows_of_methods(axis, labels)
            axis.set_xlim(0, 1.1 * max(values[quantity].max(), 1.0))
            axis.set_xlabel(words)
        rows.append(values[["run", "dataset", "architecture", "method", "seed", "name", "layers", "rows", *_OF_CODERS]])
        pair[0].set_title(setting.title)
    style.note(figure, "Each mark: one coder of one trained run. Vertical line: median.")
    return common.drawing(figure, rows, ["run", "dataset", "architecture", "method", "seed", "name", *_OF_CODERS])


def convergence(tables: Tables) -> common.Drawing:
    """Final training loss of the sweep's runs by depth, for the best rate and gain, with the range over all."""
    sweep = tables.sweep[tables.sweep["depth"] > 0]
    # Leave out a rate and gain if one of its runs diverged.
    whole = sweep.groupby(["run", *COMPARED])["status"].transform(lambda status: (status == "completed").all())
    sweep = sweep[whole.astype(bool)]
    groups: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for setting, runs in tables.depths(sweep):
        if len(runs):
            groups.setdefault((setting.dataset, models.architecture(setting.architecture).family), []).append(runs)
    figure, axes = common.grid(max(len(groups), 1))
    looks, rows = style.looks(tables.labels), []
    for axis, ((dataset, family), parts) in zip(axes, groups.items(), strict=False):
        losses = pd.concat(parts).groupby(["method", "depth", *COMPARED])["train_loss"].mean()
        for label in tables.labels:
            if label not in losses.index.get_level_values(0):
                continue
            by = losses[label].groupby("depth").agg(["min", "max"]).assign(mean=lambda table: table["min"])
            common.line(axis, by, looks[label], label)
        rows.append(losses.reset_index(name="train_loss").assign(dataset=dataset, family=family))
        axis.axhline(np.log(datasets.info(dataset).classes), color="0.5", linewidth=1, linestyle=":")
        axis.set_xticks(sorted(set(losses.index.get_level_values("depth"))))
        axis.set_title(f"{family} on {dataset}")
        axis.set_xlabel("depth")
        axis.set_ylabel("training loss, last epoch")
    common.legend(figure, axes, tables.labels)
    diverged = int((tables.sweep["status"] == "diverged").sum())
    ended = f" Left out: {tables.plan.swept} of {count(diverged, 'diverged run')}." if diverged else ""
    best = "learning rate and norm gain" if tables.plan.norm_gains else "learning rate"
    style.note(figure, f"Lines: the best {best}. Bands: up to the worst. Dotted: chance.{ended}")
    return common.drawing(figure, rows, ["dataset", "family", "method", "depth", *COMPARED, "train_loss"])


def frontier(tables: Tables) -> common.Drawing:
    """Accuracy against parameters, one line per method through the widths of one depth."""
    groups: dict[tuple[str, str, int, str], list[pd.DataFrame]] = {}
    for setting, runs in tables.panels(tables.records[tables.records["accuracy"].notna()]):
        network = models.architecture(setting.architecture)
        groups.setdefault((setting.dataset, network.family, network.depth, setting.recipe), []).append(runs)
    groups = {key: parts for key, parts in groups.items() if len(parts) > 1}
    figure, axes = common.grid(max(len(groups), 1), height=2.6)
    looks, rows = style.looks(tables.labels), []
    for axis, ((dataset, family, depth, recipe), parts) in zip(axes, groups.items(), strict=False):
        table = pd.concat(parts)
        for label in tables.labels:
            sized = table[(table["method"] == label) & table["parameters"].notna()].groupby("parameters")["accuracy"]
            points = [(size, mean_interval(accuracies.to_numpy())) for size, accuracies in sized]
            if not points:
                continue
            sizes, estimates = zip(*points, strict=True)
            common.errorbars(axis, sizes, estimates, looks[label], label)
            key = {"dataset": dataset, "family": family, "depth": depth, "recipe": recipe, "method": label}
            rows += [
                pd.DataFrame([key | {"parameters": p, "mean": e.mean, "low": e.low, "high": e.high, "seeds": e.n}])
                for p, e in points
            ]
        axis.set_ylim(common.within_percent(*axis.get_ylim()))
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # widths seldom span a power of ten
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_title(f"{family}, depth {depth}, on {dataset}" + (f", {recipe}" if recipe else ""))
        axis.set_xlabel("parameters")
    axes[0].set_ylabel("test accuracy (%)")
    common.legend(figure, axes, tables.labels)
    style.note(figure, f"Bars: 95 % intervals over seeds. Lines join widths of one depth. {tables.absent()}")
    columns = ["dataset", "family", "depth", "recipe", "method", "parameters", "mean", "low", "high", "seeds"]
    return common.drawing(figure, rows, columns)


def throughput(tables: Tables) -> common.Drawing:
    """Training throughput of each method relative to the baseline, timed in alternation."""
    table = tables.speed()
    panels = [(setting, rows) for setting, rows in tables.panels(table) if len(rows)]
    named = [tables.methods(rows) for _, rows in panels]
    figure, axes = common.grid(max(len(panels), 1), lines=[len(labels) for labels in named])
    looks, rows = style.looks(tables.labels), []
    for axis, (setting, values), labels in zip(axes, panels, named, strict=False):
        axis.axvline(1, color="0.3", linewidth=1)
        for place, label in enumerate(labels):
            mine, look = values[values["method"] == label].iloc[0], looks[label]
            axis.plot([mine["low"], mine["high"]], [place] * 2, color=look.colour, lw=5, alpha=0.35)
            axis.plot([mine["median"]] * 2, [place - 0.3, place + 0.3], color=look.colour, lw=2)
        rows.append(values.drop(columns=["run"]).assign(recipe=setting.recipe))
        common.rows_of_methods(axis, labels)
        axis.set_title(setting.title)
        axis.set_xlabel(f"training throughput, relative to {tables.baseline}")
    devices = ", ".join(sorted(set(table["device"]))) or "no machine yet"
    style.note(figure, f"Lines: medians over alternating rounds. Bars: 95 % bootstrap intervals. On {devices}.")
    columns = ["dataset", "architecture", "recipe", "method", "median", "low", "high", "rounds", "seconds", "device"]
    return common.drawing(figure, rows, columns)
