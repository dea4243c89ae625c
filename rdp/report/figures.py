"""Figures: one function each, from tables to a drawing and the data that are in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rdp import data, files, measure, models, probes, records
from rdp.errors import UserError, choices
from rdp.report import settings, style
from rdp.report.settings import Setting
from rdp.stats import mean_interval
from rdp.study import Plan


@dataclass(frozen=True)
class Tables:
    """What figures are drawn from: the records, their history, and on demand the tables of the study's probes."""

    plan: Plan
    records: pd.DataFrame
    history: pd.DataFrame
    results: Path

    @property
    def labels(self) -> list[str]:
        """The study's methods, in its order."""
        return list(self.plan.study.methods)

    def panels(self, table: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
        """The rows of each setting, in the study's order."""
        cells: dict[Setting, list[str]] = {}
        for cell, setting in settings.by_cell(self.plan).items():
            cells.setdefault(setting, []).append(cell)
        cell = table["run"].str.replace(r"/.*", "", regex=True)  # a run's name is its cell's, and its seed
        return [(setting, table[cell.isin(names)]) for setting, names in cells.items()]

    def absent(self) -> str:
        """How many runs left no numbers, in words."""
        counts = self.records["status"].value_counts()
        parts = [f"{counts[s]} of {len(self.records)} runs {s}" for s in ("failed", "missing") if s in counts]
        return f"Not drawn: {', '.join(parts)}." if parts else ""


class Drawing(NamedTuple):
    """A figure, and exactly the data that are drawn in it."""

    figure: Figure
    data: pd.DataFrame


def load(plan: Plan, results: Path) -> Tables:
    """The tables of a study."""
    return Tables(plan, *records.read(plan.name, results), results)


def accuracy(tables: Tables) -> Drawing:
    """Test accuracy of every seed, its mean and interval."""
    panels = tables.panels(tables.records)
    figure, axes = _grid(len(panels))
    looks, rows = style.looks(tables.labels), []
    for axis, (setting, runs) in zip(axes, panels, strict=True):
        chance = 1 / data.info(setting.dataset).classes
        axis.axvline(chance * style.PERCENT, color="0.5", linewidth=1, linestyle=":")
        for place, label in enumerate(tables.labels):
            mine = runs[(runs["method"] == label) & runs["accuracy"].notna()]
            look, diverged = looks[label], mine["status"] == "diverged"
            # Seeds are spread over the height of the row, in their order, so that equal values stay visible.
            spread = place + np.linspace(-0.28, 0.28, len(mine)) if len(mine) > 1 else np.full(len(mine), place)
            x = mine["accuracy"].to_numpy() * style.PERCENT
            axis.scatter(x[~diverged], spread[~diverged], s=18, marker=look.marker, color=look.colour, alpha=0.45)
            axis.scatter(x[diverged], spread[diverged], s=30, marker="x", color=look.colour)
            estimate = mean_interval(mine["accuracy"].to_numpy())
            if estimate.n:
                axis.plot([estimate.mean * style.PERCENT] * 2, [place - 0.36, place + 0.36], color=look.colour, lw=2)
            if estimate.has_interval:
                ends = np.array([estimate.low, estimate.high]) * style.PERCENT
                axis.plot(ends, [place, place], color=look.colour, lw=5, alpha=0.35, solid_capstyle="butt")
            for row, seed, status in zip(mine["accuracy"], mine["seed"], mine["status"], strict=True):
                key = setting.key | {"method": label}
                rows.append(key | {"seed": seed, "status": status, "accuracy": row, "mean": estimate.mean})
                rows[-1] |= {"low": estimate.low, "high": estimate.high}
        axis.set_yticks(range(len(tables.labels)), tables.labels)
        axis.set_ylim(len(tables.labels) - 0.5, -0.5)
        left, right = axis.get_xlim()  # an interval of few seeds may reach beyond what accuracy can be
        axis.set_xlim(max(left, -2), min(right, style.PERCENT + 2))
        axis.set_title(setting.title)
        axis.set_xlabel("test accuracy (%)")
    style.note(figure, f"Dotted: chance. Crosses: diverged runs, at chance. {tables.absent()}")
    columns = ["dataset", "architecture", "recipe", "method", "seed", "status", "accuracy", "mean", "low", "high"]
    return Drawing(figure, pd.DataFrame(rows, columns=columns))


def training_curves(tables: Tables) -> Drawing:
    """Training loss and validation accuracy by epoch, the mean over seeds and their range."""
    panels = tables.panels(tables.history)
    size = (4.2 * len(panels), 6)
    figure, grid = plt.subplots(2, len(panels), figsize=size, squeeze=False, sharex="col")
    looks, rows = style.looks(tables.labels), []
    shown = (("train_loss", 1.0, "training loss"), ("validation_accuracy", style.PERCENT, "validation accuracy (%)"))
    for column, (setting, epochs) in enumerate(panels):
        for axis, (quantity, factor, name) in zip(grid[:, column], shown, strict=True):
            values = epochs[epochs[quantity].notna()]
            by = values.groupby(["method", "epoch"], sort=True)[quantity].agg(["mean", "min", "max", "count"])
            for label in tables.labels:
                if label not in by.index.get_level_values(0):
                    continue
                _line(axis, by.loc[label] * [factor, factor, factor, 1], looks[label], label)
            rows.append(by.reset_index().assign(**setting.key, quantity=quantity))
            axis.set_ylabel(name if column == 0 else "")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if (epochs["train_loss"] > 0).any():
            grid[0, column].set_yscale("log")
        grid[0, column].set_title(setting.title)
        grid[1, column].set_xlabel("epoch")
    _legend(figure, grid.flat, tables.labels)
    stopped = int((tables.records["status"] == "diverged").sum())
    ended = f"{stopped} diverged runs end where their loss did. " if stopped else ""
    style.note(figure, f"Lines: mean over seeds. Bands: lowest to highest seed. {ended}{tables.absent()}")
    return Drawing(figure, pd.concat(rows, ignore_index=True))


def accuracy_by_depth(tables: Tables) -> Drawing:
    """Test accuracy against depth, one line a method."""
    drawn = tables.records[(tables.records["depth"] > 0) & tables.records["accuracy"].notna()]
    # A line joins depths of one family under one recipe: layers of an MLP and of a ResNet are not the same.
    groups: dict[tuple[str, str, str], list[pd.DataFrame]] = {}
    for setting, runs in tables.panels(drawn):
        family = models.architecture(setting.architecture).module.rpartition(".")[2]
        groups.setdefault((setting.dataset, family, setting.recipe), []).append(runs)
    figure, axes = _grid(len(groups))
    looks, rows = style.looks(tables.labels), []
    for axis, ((dataset, family, recipe), parts) in zip(axes, groups.items(), strict=True):
        here = pd.concat(parts)
        depths = sorted(here["depth"].unique())
        for place, label in enumerate(tables.labels):
            mine, look = here[here["method"] == label], looks[label]
            points = [(d, mean_interval(mine.loc[mine["depth"] == d, "accuracy"].to_numpy())) for d in depths]
            points = [(d, estimate) for d, estimate in points if estimate.n]
            if not points:
                continue
            # A little to the side of each other, so that intervals do not hide one another.
            x = np.array([d for d, _ in points]) * (1 + 0.012 * (place - (len(tables.labels) - 1) / 2))
            y = np.array([e.mean for _, e in points]) * style.PERCENT
            low = np.array([e.low for _, e in points]) * style.PERCENT
            high = np.array([e.high for _, e in points]) * style.PERCENT
            axis.errorbar(
                x,
                y,
                yerr=np.nan_to_num(np.array([y - low, high - y])),
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker,
                markersize=5,
                capsize=2,
                label=label,
            )
            key = {"dataset": dataset, "family": family, "recipe": recipe, "method": label}
            rows += [key | {"depth": d, "mean": e.mean, "low": e.low, "high": e.high, "seeds": e.n} for d, e in points]
        axis.axhline(style.PERCENT / data.info(dataset).classes, color="0.5", linewidth=1, linestyle=":")
        axis.set_xticks(depths, [str(d) for d in depths])
        if len(depths) == 1:
            axis.set_xlim(depths[0] * 0.9, depths[0] * 1.1)
        bottom, top = axis.get_ylim()
        axis.set_ylim(max(bottom, -2), min(top, style.PERCENT + 2))
        axis.set_title(f"{family} on {dataset}" + (f", {recipe}" if recipe else ""))
        axis.set_xlabel("depth (layers in the architecture's name)")
    axes[0].set_ylabel("test accuracy (%)")
    _legend(figure, axes, tables.labels)
    style.note(figure, f"Bars: 95 % intervals over seeds. Dotted: chance. {tables.absent()}")
    columns = ["dataset", "family", "recipe", "method", "depth", "mean", "low", "high", "seeds"]
    return Drawing(figure, pd.DataFrame(rows, columns=columns))


def cost(tables: Tables) -> Drawing:
    """Training throughput of each method, every run a point."""
    done = tables.records["status"] == "completed"  # arithmetic on NaN has a speed of its own
    measured = tables.records[done & tables.records["examples_per_second"].notna()]
    panels = tables.panels(measured)
    figure, axes = _grid(len(panels))
    looks, rows = style.looks(tables.labels), []
    for axis, (setting, runs) in zip(axes, panels, strict=True):
        for place, label in enumerate(tables.labels):
            mine, look = runs[runs["method"] == label], looks[label]
            if mine.empty:
                continue
            speeds = mine["examples_per_second"].to_numpy()
            axis.scatter(speeds, np.full(len(speeds), place), s=18, marker=look.marker, color=look.colour, alpha=0.45)
            middle = float(np.median(speeds))
            axis.plot([middle, middle], [place - 0.3, place + 0.3], color=look.colour, lw=2)
            key = setting.key | {"method": label, "median": middle}
            rows += [key | {"examples_per_second": speed} for speed in speeds]
        axis.set_yticks(range(len(tables.labels)), tables.labels)
        axis.set_ylim(len(tables.labels) - 0.5, -0.5)
        axis.set_xlim(left=0)
        axis.set_title(setting.title)
        axis.set_xlabel("training examples a second")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter("{x:,.0f}")
    devices = "; ".join(sorted(measured["device"].dropna().unique()))
    style.note(figure, f"Points: completed runs. Bars: median. On {devices or 'no machine yet'}. {tables.absent()}")
    columns = ["dataset", "architecture", "recipe", "method", "median", "examples_per_second"]
    return Drawing(figure, pd.DataFrame(rows, columns=columns))


def surviving_neurons(tables: Tables) -> Drawing:
    """Share of pre-activations above 0, by depth, at initialisation and trained."""
    measured = measure.read(tables.plan.name, "surviving_neurons", tables.results)
    panels = tables.panels(measured) if len(measured) else tables.panels(tables.history)
    figure, grid = plt.subplots(2, len(panels), figsize=(4.2 * len(panels), 6), squeeze=False, sharey=True)
    looks, rows = style.looks(tables.labels), []
    for column, (setting, layers) in enumerate(panels):
        for axis, stage in zip(grid[:, column], ("initial", "trained"), strict=True):
            here = layers[layers["stage"] == stage] if len(measured) else layers.iloc[:0]
            # The rectifier inside a branch and the one that closes its block are two stories: a line each.
            inside = here["name"].str.contains("branch") if len(measured) else here["run"].astype(bool)
            for label, where in product(tables.labels, (True, False)):
                mine, look = here[(here["method"] == label) & (inside == where)], looks[label]
                if mine.empty:
                    continue
                line = mine.groupby("layer")["positive"].agg(["mean", "min", "max", "count"]) * [100, 100, 100, 1]
                _line(axis, line, look, label)
                key = setting.key | {"stage": stage, "method": label}
                rows.append(line.reset_index().assign(inside_branch=where, **key))
            axis.set_title(f"{setting.title}, {'at initialisation' if stage == 'initial' else 'trained'}")
            axis.set_ylabel("pre-activations above 0 (%)" if column == 0 else "")
        grid[1, column].set_xlabel("rectifier, from the input on")
        grid[1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
        grid[0, column].xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, grid.flat, tables.labels)
    style.note(
        figure, f"First {measure.EXAMPLES} test examples. Lines: mean over seeds. Bands: lowest to highest seed."
    )
    return Drawing(figure, pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["layer"]))


FIGURES: dict[str, Callable[[Tables], Drawing]] = {
    function.__name__: function for function in (accuracy, training_curves, accuracy_by_depth, cost, surviving_neurons)
}


def names(plan: Plan) -> list[str]:
    """The figures of a study: the common ones, and those of its probes."""
    return [name for name in FIGURES if name not in probes.available() or name in plan.study.probes]


def write(tables: Tables, name: str, results: Path) -> None:
    """Draw one figure: ``figures/NAME.{svg,pdf,png}``, and the data that are in it as ``NAME.csv``."""
    if name not in names(tables.plan):
        raise UserError(f"unknown figure '{name}'; {choices(name, names(tables.plan))}")
    style.use()
    drawing = FIGURES[name](tables)
    folder = results / tables.plan.name / "figures"
    for kind, metadata in (("svg", {"Date": None}), ("pdf", {"CreationDate": None}), ("png", {})):
        with files.whole(folder / f"{name}.{kind}") as part:
            drawing.figure.savefig(part, format=kind, metadata=metadata, dpi=150)
    plt.close(drawing.figure)
    with files.whole(folder / f"{name}.csv") as part:
        drawing.data.to_csv(part, index=False)


def _grid(panels: int) -> tuple[Figure, list[Axes]]:
    """Panels in rows of up to three."""
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.4 * rows), squeeze=False)
    for axis in grid.flat[panels:]:
        axis.set_visible(False)
    return figure, list(grid.flat[:panels])


def _line(axis: Axes, line: pd.DataFrame, look: style.Look, label: str) -> None:
    """A method's mean with the range of its seeds; ``line`` has columns mean, min and max."""
    shape = {"marker": look.marker, "markevery": max(1, len(line) // 8), "markersize": 4}
    axis.plot(line.index, line["mean"], color=look.colour, linestyle=look.dash, label=label, **shape)
    axis.fill_between(line.index, line["min"], line["max"], color=look.colour, alpha=0.12, linewidth=0)


def _legend(figure: Figure, axes: Iterator[Axes] | list[Axes], labels: list[str]) -> None:
    """One legend for all panels, above them."""
    found = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    found = {label: found[label] for label in labels if label in found}
    if found:
        figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=min(len(found), 6))
    sns.despine(figure)
