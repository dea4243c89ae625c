"""Figure of where a method gains over the baseline: by length of training."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rdp.claims.metrics.training import fit
from rdp.report import style
from rdp.report.formatting import number
from rdp.report.plots import common
from rdp.report.summary import by_seed
from rdp.stats import Estimate, paired_difference
from rdp.study import comparisons
from rdp.study.comparisons import Setting
from rdp.tables import Tables
from rdp.utils.humanize import PERCENT

FIGURES = {"regimes": {"needs": "lengths"}}
_LEAST_LIMIT = 1.0  # of the colour scale, in points
_COLUMNS = ["dataset", "architecture", "recipe", "method", "epochs", "mean", "low", "high", "n"]
_COLUMNS += ["train_accuracy", "test_accuracy", "underfits"]


def regimes(tables: Tables) -> common.Drawing:
    """Difference of each method to the baseline by length of training, with interval, and the baseline's fit."""
    runs = dict(tables.panels(tables.records))
    frames = {
        panel: pd.concat([_differences(tables, runs[at], at, panel, epochs) for epochs, at in lengths.items()])
        for panel, lengths in comparisons.by_length(tables.plan).items()
    }
    largest = max((frame["mean"].abs().max() for frame in frames.values()), default=0.0)
    limit = max(_LEAST_LIMIT, float(np.nan_to_num(largest)))
    lines = [max(frame["method"].nunique(), 1) + 1 for frame in frames.values()]  # one more for the labels of columns
    figure, axes = common.grid(len(frames), lines=lines, line=0.27)
    for axis, (panel, frame) in zip(axes, frames.items(), strict=True):
        _draw(axis, frame, limit)
        axis.set_title(panel.title)
    style.note(
        figure,
        f"Points of test accuracy over {tables.baseline}, paired by seed, with 95 % t interval; bold: it excludes 0. "
        f"Below the epochs: training and test accuracy of {tables.baseline} in percent. {tables.absent()}",
    )
    return common.drawing(figure, list(frames.values()), _COLUMNS)


def _differences(tables: Tables, runs: pd.DataFrame, at: Setting, panel: Setting, epochs: int) -> pd.DataFrame:
    """One row per method of a setting, in the study's order."""
    name = tables.baseline_of(at)
    baseline = runs[runs["method"] == name]
    train, test = PERCENT * baseline["train_accuracy"].mean(), PERCENT * baseline["accuracy"].mean()
    shared = {"train_accuracy": train, "test_accuracy": test, "underfits": bool(fit(baseline).mean() < 0)}
    rows = []
    for label in tables.labels:
        mine = runs[runs["method"] == label]
        if label != name and len(mine):
            estimate = paired_difference(by_seed(mine), by_seed(baseline))
            values = {key: getattr(estimate, key) for key in ("mean", "low", "high", "n")}
            rows.append(panel.key | {"method": label, "epochs": epochs} | values | shared)
    return pd.DataFrame(rows, columns=_COLUMNS)


def _draw(axis: Axes, frame: pd.DataFrame, limit: float) -> None:
    """A table of coloured cells: methods by epochs."""
    methods, epochs = list(frame["method"].unique()), sorted(frame["epochs"].unique())
    means = frame.pivot(index="method", columns="epochs", values="mean").loc[methods, epochs].to_numpy()
    colours = mpl.colormaps["RdBu"].with_extremes(bad="0.92")
    axis.imshow(np.ma.masked_invalid(means), cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
    for row in frame.itertuples():
        estimate = Estimate(row.mean, row.low, row.high, row.n)
        place = (epochs.index(row.epochs), methods.index(row.method))
        colour = "white" if abs(row.mean) > 0.7 * limit else "black"
        axis.annotate(
            _text(estimate),
            place,
            ha="center",
            va="center",
            fontsize=7,
            color=colour,
            fontweight="bold" if estimate.excludes(0) else "normal",
        )
    ticks = [_column(frame[frame["epochs"] == count].iloc[0]) for count in epochs]
    axis.set_xticks(range(len(epochs)), ticks, fontsize=7.5)
    axis.set_yticks(range(len(methods)), methods, fontsize=7.5)
    axis.grid(visible=False)


def _text(estimate: Estimate) -> str:
    mean, low, high = (number(value, "{:+z.1f}") for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean}\n[{low}, {high}]" if estimate.has_interval else mean


def _column(row: "pd.Series[float]") -> str:
    """``48 epochs``, then the baseline's accuracies and whether it underfits."""
    text = f"{row['epochs']:.0f} epochs"
    if pd.notna(row["test_accuracy"]):
        text += f"\n{row['train_accuracy']:.0f} / {row['test_accuracy']:.0f} %"
    return text + ("\nunderfitting" if row["underfits"] else "")
