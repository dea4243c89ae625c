"""Figures of feature reuse: CKA between branches, lesions, branch norms, activation maps."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rdp.report import style
from rdp.report.plots import common
from rdp.study.comparisons import Setting
from rdp.tables import Tables
from rdp.utils.humanize import PERCENT

FIGURES = {
    "redundancy": {"probe": "feature_reuse"},
    "reuse_matrices": {"probe": "feature_reuse"},
    "lesions": {"probe": "feature_reuse"},
    "branch_to_stream": {"probe": "feature_reuse"},
    "activation_maps": {"probe": "activation_maps"},  # one figure for each method
}
_BULK = 0.8  # quantile of a map's magnitudes at the end of its colour scale


def redundancy(tables: Tables) -> common.Drawing:
    """The redundancy index of each method and its references."""
    table = tables.probe("feature_reuse")
    table = table[table["quantity"].isin(["redundancy", "redundancy_independent"]) & table["value"].notna()]
    panels = tables.panels(table)
    named = [tables.methods(values) for _, values in panels]
    figure, axes = common.grid(len(panels), lines=[len(labels) for labels in named])
    looks, rows = style.looks(tables.labels), []
    shown = (
        ("redundancy", "trained", "trained"),
        ("redundancy", "initial", "untrained"),
        ("redundancy_independent", "trained", "independent"),
    )
    for axis, (setting, values), labels in zip(axes, panels, named, strict=True):
        for place, label in enumerate(labels):
            for quantity, stage, name in shown:
                rows_of = (values["quantity"] == quantity) & (values["stage"] == stage) & (values["method"] == label)
                mine = values.loc[rows_of, "value"]
                if mine.empty:
                    continue
                colour = looks[label].colour
                axis.plot([mine.min(), mine.max()], [place, place], color=colour, lw=1.2, alpha=0.6)
                if name == "independent":
                    axis.scatter([mine.mean()], [place], s=40, marker="x", color=colour, zorder=3)
                else:
                    fill = "white" if name == "untrained" else colour
                    marker = looks[label].marker
                    axis.scatter(
                        [mine.mean()], [place], s=46, marker=marker, facecolor=fill, edgecolor=colour, zorder=3
                    )
                key = setting.key | {"method": label, "reference": name, "seeds": len(mine)}
                rows.append(key | {"mean": mine.mean(), "min": mine.min(), "max": mine.max()})
        common.rows_of_methods(axis, labels)
        axis.set_title(setting.title)
        axis.set_xlabel("redundancy index (mean CKA at distance ≥ 2)")
    marks = "Filled: trained. Hollow: untrained. Crosses: between two independently trained networks."
    style.note(figure, f"{marks} Means over seeds; lines: lowest to highest seed.")
    columns = ["dataset", "architecture", "recipe", "method", "reference", "seeds", "mean", "min", "max"]
    return common.Drawing(figure, pd.DataFrame(rows, columns=columns))


def reuse_matrices(tables: Tables) -> common.Drawing:
    """CKA between the branch outputs of every pair of units of trained networks, mean over seeds."""
    table = tables.probe("feature_reuse")
    table = table[(table["quantity"] == "cka") & (table["stage"] == "trained")]
    panels, labels = tables.panels(table), tables.methods(table) or tables.labels
    side = min((style.WIDTH - 0.9) / len(labels), 1.6)  # of a matrix, in inches
    size = (side * len(labels) + 0.9, (side + 0.1) * len(panels) + 0.5)
    figure, grid = plt.subplots(len(panels), len(labels), figsize=size, squeeze=False)
    rows, image = [], None
    for line, (setting, values) in zip(grid, panels, strict=True):
        for axis, label in zip(line, labels, strict=True):
            mine = values[values["method"] == label]
            axis.grid(False)
            axis.set_xticks([])
            axis.set_yticks([])
            if mine.empty:
                axis.set_axis_off()
                continue
            by = mine.groupby(["layer", "other"])["value"].mean()
            image = axis.imshow(_square(by), vmin=0, vmax=1, cmap="viridis", origin="lower", interpolation="nearest")
            rows.append(by.reset_index(name="cka").assign(**setting.key, method=label))
        line[0].set_axis_on()
        line[0].set_ylabel(setting.title.replace(" on ", "\non "), fontsize=7.5)
    for axis, label in zip(grid[0], labels, strict=True):
        axis.set_title(label.replace("_", "\n"), fontsize=6.5)
    if image is not None:
        figure.colorbar(image, ax=grid, shrink=0.4, label="linear CKA")
    style.note(figure, "Units in the order of the forward pass, from bottom left. Mean over seeds.")
    columns = ["dataset", "architecture", "recipe", "method", "layer", "other", "cka"]
    return common.drawing(figure, rows, columns)


def _square(pairs: "pd.Series[float]") -> NDArray[np.float64]:
    """Values by (layer, other), layer < other, as a symmetric matrix with a unit diagonal."""
    size = int(pairs.index.get_level_values("other").max())
    matrix = np.eye(size)
    for (layer, other), value in pairs.items():
        matrix[layer - 1, other - 1] = matrix[other - 1, layer - 1] = value
    return matrix


def lesions(tables: Tables) -> common.Drawing:
    """Accuracy after deleting one unit, and after deleting the last k units."""
    table = tables.probe("feature_reuse")
    table = table[(table["stage"] == "trained") & table["quantity"].isin(["lesion", "lesion_last"])]
    return _by_layer(
        tables,
        table,
        (("lesion", "deleted unit"), ("lesion_last", "units deleted from the end")),
        "remaining accuracy (%)",
        "On the probe's examples. Lines: mean over seeds. Bands: lowest to highest seed.",
        PERCENT,
    )


def branch_to_stream(tables: Tables) -> common.Drawing:
    """The norm of each branch's output over that of the stream it is added to."""
    table = tables.probe("feature_reuse")
    table = table[table["quantity"] == "branch_to_stream"].assign(quantity=lambda rows: rows["stage"])
    return _by_layer(
        tables,
        table,
        tuple((stage, f"unit, {words}") for stage, words in common.STAGES),
        "‖branch‖ / ‖stream‖",
        "Mean over examples. Lines: mean over seeds. Bands: lowest to highest seed.",
    )


def _by_layer(
    tables: Tables,
    table: pd.DataFrame,
    shown: Sequence[tuple[str, str]],
    ylabel: str,
    note: str,
    factor: float = 1.0,
) -> common.Drawing:
    panels: list[tuple[Setting, pd.DataFrame]] = tables.panels(table)
    figure, axes = common.pairs(len(panels))
    looks, rows = style.looks(tables.labels), []
    for pair, (setting, values) in zip(axes, panels, strict=True):
        for axis, (quantity, xlabel) in zip(pair, shown, strict=True):
            for label in tables.labels:
                mine = values[(values["quantity"] == quantity) & (values["method"] == label)]
                if mine.empty:
                    continue
                by = mine.groupby("layer")["value"].agg(["mean", "min", "max", "count"])
                common.line(axis, by, looks[label], label, factor)
                rows.append(by.reset_index().assign(**setting.key, quantity=quantity, method=label))
            axis.set_xlabel(xlabel)
            axis.set_ylabel(ylabel)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        pair[0].set_title(setting.title)
    common.legend(figure, [axis for pair in axes for axis in pair], tables.labels)
    style.note(figure, note)
    columns = ["dataset", "architecture", "recipe", "quantity", "method", "layer", "mean", "min", "max", "count"]
    return common.drawing(figure, rows, columns)


def activation_maps(tables: Tables, label: str) -> common.Drawing:
    """Every unit of every layer of one method's network over the input plane, untrained and trained."""
    table = tables.probe("activation_maps")
    mine = table[table["method"] == label] if len(table) else table
    panels = [(setting, rows) for setting, rows in tables.panels(mine) if len(rows)][:1]
    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 3.6))
    note = "No network of this method has been trained on two-dimensional inputs yet."
    for axis, (stage, words) in zip(axes, common.STAGES, strict=True):
        axis.grid(False)
        for setting, rows in panels:
            maps = rows[rows["stage"] == stage]
            maps = maps[maps["seed"] == maps["seed"].min()]
            _mosaic(axis, maps)
            axis.set_title(f"{label}, {setting.title}, {words}")
            high, seed = maps["high"].iloc[0], maps["seed"].iloc[0]
            disc = f"the disc of radius {high:g} that contains the data"
            note = f"Seed {seed}. Each tile: one unit over {disc}, minus its median, scaled by its own spread."
    style.note(figure, note)
    columns = ["run", "stage", "layer", "neuron", "low", "high", "map"]
    data = mine.reindex(columns=columns)
    return common.Drawing(figure, data.assign(map=[" ".join(f"{value:g}" for value in tile) for tile in data["map"]]))


def _mosaic(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw layers from top to bottom and units from left to right, each over the disc within its square.

    The corners contain no data. A trained network extrapolates there to values that would dominate the colours.
    """
    side = int(np.sqrt(len(rows["map"].iloc[0])))
    centres = (2 * np.arange(side) + 1 - side) / side
    inside = np.hypot(*np.meshgrid(centres, centres)) <= 1
    layers, neurons = int(rows["layer"].max()), int(rows["neuron"].max())
    canvas = np.full((layers * (side + 1), neurons * (side + 1)), np.nan)
    for layer, of_layer in rows.groupby("layer"):
        maps = np.stack(of_layer["map"].to_list()).reshape(-1, side, side)
        for neuron, values in zip(of_layer["neuron"], maps, strict=True):
            top, left = (layer - 1) * (side + 1), (neuron - 1) * (side + 1)
            # Normalised to compare shapes: a trained stream is large, and largest at the rim.
            about = values - np.median(values[inside])
            size = np.quantile(np.abs(about[inside]), _BULK) or 1.0
            canvas[top : top + side, left : left + side] = np.where(inside, about / size, np.nan)
    axis.imshow(canvas, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    middle, step = side / 2, side + 1
    ticks = [0, *range(7, max(layers, neurons), 8)]
    axis.set_xticks([i * step + middle for i in ticks if i < neurons], [str(i + 1) for i in ticks if i < neurons])
    axis.set_yticks([i * step + middle for i in ticks if i < layers], [str(i + 1) for i in ticks if i < layers])
    axis.set_xlabel("unit of the layer")
    axis.set_ylabel("layer, from the input")
