"""Parts that all figures share: panels, lines, intervals, the legend."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from rdp.report import style
from rdp.stats import Estimate
from rdp.utils.humanize import PERCENT

STAGES = (("initial", "at initialisation"), ("trained", "trained"))  # of a probe, with their titles
_LONG = 12  # most entries of a legend above the panels
_COLUMN = 2.6  # width of a legend beside the panels, in inches
_ENTRY = 1.9  # width of an entry in a legend above them, in inches


class Drawing(NamedTuple):
    """A figure and the data that it shows."""

    figure: Figure
    data: pd.DataFrame


def drawing(figure: Figure, rows: list[pd.DataFrame], columns: list[str]) -> Drawing:
    """A figure with its data, given as one table per panel; an empty table if there are none."""
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)
    return Drawing(figure, table[columns])


def grid(panels: int, width: float = 4.6, height: float = 3.4, lines: int = 0) -> tuple[Figure, list[Axes]]:
    """A figure with panels in rows of up to three, each high enough for ``lines`` lines of text beside it."""
    figure, groups = _stacks(panels, 1, width, height, lines)
    return figure, [axis for (axis,) in groups]


def pairs(panels: int, lines: int = 0) -> tuple[Figure, list[tuple[Axes, ...]]]:
    """A figure with panels of two axes, one above the other, in rows of up to three; ``lines`` as in `grid`."""
    return _stacks(panels, 2, 4.4, 2.8, lines)


def _stacks(panels: int, size: int, width: float, height: float, lines: int) -> tuple[Figure, list[tuple[Axes, ...]]]:
    height = max(height, 0.8 + 0.19 * lines)
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure, axes = plt.subplots(size * rows, columns, figsize=(width * columns, size * height * rows), squeeze=False)
    groups = [tuple(axes[size * row : size * (row + 1), column]) for row in range(rows) for column in range(columns)]
    for axis in (axis for group in groups[panels:] for axis in group):
        axis.set_visible(False)
    return figure, groups[:panels]


def rows_of_methods(axis: Axes, labels: Sequence[str]) -> None:
    """Set one row per method, the first on top."""
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)


def spread(row: int, count: int) -> np.ndarray:
    """Heights of a row's seeds, spread so that equal values stay visible."""
    return row + np.linspace(-0.28, 0.28, count) if count > 1 else np.full(count, float(row))


def interval(axis: Axes, row: float, estimate: Estimate, look: style.Look, factor: float = 1.0) -> None:
    """Draw a method's mean and interval in its row, scaled by ``factor``."""
    if estimate.n:
        axis.plot([estimate.mean * factor] * 2, [row - 0.36, row + 0.36], color=look.colour, lw=2)
    if estimate.has_interval:
        ends = [estimate.low * factor, estimate.high * factor]
        axis.plot(ends, [row, row], color=look.colour, lw=5, alpha=0.35, solid_capstyle="butt")


def line(axis: Axes, values: pd.DataFrame, look: style.Look, label: str, factor: float = 1.0) -> None:
    """Draw a method's mean and the range of its seeds, scaled by ``factor``; ``values`` has columns mean, min, max."""
    mean, low, high = (values[name] * factor for name in ("mean", "min", "max"))
    options: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 4}
    axis.plot(values.index, mean, label=label, markevery=max(1, len(values) // 8), **options)
    axis.fill_between(values.index, low, high, color=look.colour, alpha=0.12, linewidth=0)


def errorbars(
    axis: Axes, x: Sequence[float] | NDArray[Any], accuracies: Sequence[Estimate], look: style.Look, label: str
) -> None:
    """Draw a method's accuracies in percent at ``x``, with intervals and a line between them."""
    middle, low, high = PERCENT * np.array([[e.mean, e.low, e.high] for e in accuracies]).T
    shape: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 5}
    axis.errorbar(
        x, middle, yerr=np.nan_to_num(np.array([middle - low, high - middle])), label=label, capsize=2, **shape
    )


def within_percent(low: float, high: float) -> tuple[float, float]:
    """Axis limits of accuracies, clipped because an interval of few seeds may exceed 0 to 100 %."""
    return max(low, -2), min(high, PERCENT + 2)


class _Plain(LogFormatter):
    """Plain numbers at the ticks that matplotlib labels, since most data span less than a decade."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def log_scale(axis: Axes) -> None:
    """Set a logarithmic y axis with plain numbers."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(_Plain())
    axis.yaxis.set_minor_formatter(_Plain(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def legend(figure: Figure, axes: Iterator[Axes] | list[Axes], labels: list[str]) -> None:
    """Draw one legend for all panels: above them, or beside them if it is long."""
    handles: dict[str, Artist] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    entries = {label: handles[label] for label in labels if label in handles}
    if len(entries) > _LONG:
        figure.set_figwidth(figure.get_figwidth() + _COLUMN)
        figure.set_figheight(max(figure.get_figheight(), 0.8 + 0.2 * len(entries)))
        figure.legend(entries.values(), entries.keys(), loc="outside right upper")
    elif entries:
        columns = min(len(entries), 6, int(figure.get_figwidth() / _ENTRY))
        figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns)
    sns.despine(figure)
