"""What all plots share: a drawing with its data, panels, lines and the legend."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from rdp.report import style
from rdp.stats import Estimate
from rdp.utils.humanize import PERCENT

STAGES = (("initial", "at initialisation"), ("trained", "trained"))  # of a probe, with words for them
_LONG = 12  # entries that a legend above the panels may have
_COLUMN = 2.6  # inches, of a legend beside them
_ENTRY = 1.9  # inches, of an entry in a legend above them


class Drawing(NamedTuple):
    """A figure, and exactly the data that are drawn in it."""

    figure: Figure
    data: pd.DataFrame


def drawing(figure: Figure, rows: list[pd.DataFrame], columns: list[str]) -> Drawing:
    """A figure with its data, some rows a panel; a table of columns alone where nothing is drawn."""
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)
    return Drawing(figure, table[columns])


def grid(panels: int, width: float = 4.6, height: float = 3.4, lines: int = 0) -> tuple[Figure, list[Axes]]:
    """Panels in rows of up to three, each high enough for so many ``lines`` of text beside it."""
    height = max(height, 0.8 + 0.19 * lines)
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure, found = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    for axis in found.flat[panels:]:
        axis.set_visible(False)
    return figure, list(found.flat[:panels])


def pairs(panels: int, lines: int = 0) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Panels of two axes, one above the other, side by side in rows of up to three; ``lines`` as in `grid`."""
    height = max(2.8, 0.8 + 0.19 * lines)
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure, found = plt.subplots(2 * rows, columns, figsize=(4.4 * columns, 2 * height * rows), squeeze=False)
    places = [divmod(i, columns) for i in range(rows * columns)]
    axes = [(found[2 * row, column], found[2 * row + 1, column]) for row, column in places]
    for pair in axes[panels:]:
        for axis in pair:
            axis.set_visible(False)
    return figure, axes[:panels]


def rows_of_methods(axis: Axes, labels: Sequence[str]) -> None:
    """One row a method, the first on top."""
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)


def spread(row: int, count: int) -> np.ndarray:
    """Heights for the seeds of a row, in their order, so that equal values stay visible."""
    return row + np.linspace(-0.28, 0.28, count) if count > 1 else np.full(count, float(row))


def interval(axis: Axes, row: float, estimate: Estimate, look: style.Look, factor: float = 1.0) -> None:
    """A method's mean and interval in its row, times ``factor``; nothing of what is not known."""
    if estimate.n:
        axis.plot([estimate.mean * factor] * 2, [row - 0.36, row + 0.36], color=look.colour, lw=2)
    if estimate.has_interval:
        ends = [estimate.low * factor, estimate.high * factor]
        axis.plot(ends, [row, row], color=look.colour, lw=5, alpha=0.35, solid_capstyle="butt")


def line(axis: Axes, values: pd.DataFrame, look: style.Look, label: str, factor: float = 1.0) -> None:
    """A method's mean with the range of its seeds, times ``factor``; ``values`` has columns mean, min and max."""
    mean, low, high = (values[name] * factor for name in ("mean", "min", "max"))
    shape = {"marker": look.marker, "markevery": max(1, len(values) // 8), "markersize": 4}
    axis.plot(values.index, mean, color=look.colour, linestyle=look.dash, label=label, **shape)
    axis.fill_between(values.index, low, high, color=look.colour, alpha=0.12, linewidth=0)


def errorbars(
    axis: Axes, x: Sequence[float] | np.ndarray, accuracies: Sequence[Estimate], look: style.Look, label: str
) -> None:
    """A method's accuracies in percent, with their intervals, joined by a line; ``x`` has a place for each."""
    middle, low, high = (np.array([getattr(e, name) for e in accuracies]) * PERCENT for name in ("mean", "low", "high"))
    shape = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 5, "capsize": 2}
    axis.errorbar(x, middle, yerr=np.nan_to_num(np.array([middle - low, high - middle])), label=label, **shape)


def within_percent(low: float, high: float) -> tuple[float, float]:
    """Limits of an axis of accuracies: an interval of few seeds may reach beyond what accuracy can be."""
    return max(low, -2), min(high, PERCENT + 2)


class _Plain(LogFormatter):
    """Plain numbers at those marks that matplotlib would name: most of what is shown spans less than a decade."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def log_scale(axis: Axes) -> None:
    """A logarithmic scale upwards, with plain numbers."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(_Plain())
    axis.yaxis.set_minor_formatter(_Plain(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def legend(figure: Figure, axes: Iterator[Axes] | list[Axes], labels: list[str]) -> None:
    """One legend for all panels: above them, or in a column of its own where it is long."""
    found = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    found = {label: found[label] for label in labels if label in found}
    if len(found) > _LONG:
        figure.set_figwidth(figure.get_figwidth() + _COLUMN)
        figure.set_figheight(max(figure.get_figheight(), 0.8 + 0.2 * len(found)))
        figure.legend(found.values(), found.keys(), loc="outside right upper")
    elif found:
        columns = min(len(found), 6, int(figure.get_figwidth() / _ENTRY))
        figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=columns)
    sns.despine(figure)
