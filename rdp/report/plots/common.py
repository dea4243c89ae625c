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
_MOST_ROWS = 4  # of panels, before the panels get narrower
# Sizes in inches.
_FRAME = 0.8  # height of the title and the x axis of a panel
_NAMED = 3.1  # least width of a panel of named rows
_NARROW = 4.4  # width of a figure of one column
_LEAST = 1.15  # height of a panel in a high figure
_ENTRY = 1.55  # least width of an entry of a legend
_LETTER = 0.068  # width of a letter in it
_LINE = 0.155  # height of a line of text


class Drawing(NamedTuple):
    """A figure and the data that it shows."""

    figure: Figure
    data: pd.DataFrame


def drawing(figure: Figure, rows: list[pd.DataFrame], columns: list[str]) -> Drawing:
    """A figure with its data, given as one table per panel; an empty table if there are none."""
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)
    return Drawing(figure, table[columns])


def grid(
    panels: int, width: float = 2.0, height: float = 2.1, lines: Sequence[int] = (), line: float = 0.18
) -> tuple[Figure, list[Axes]]:
    """A figure of the paper's width with panels in rows.

    ``width`` and ``height`` are the least width and the height of a panel in inches, unless there are many panels or
    ``lines`` gives the number of named rows of each, of the height ``line``.
    """
    figure, groups = _stacks(panels, 1, width, height, lines, line)
    return figure, [axis for (axis,) in groups]


def column(panels: int) -> tuple[Figure, list[Axes]]:
    """A narrow figure with one panel above the other, legible on a phone; a `grid` of two columns for many panels."""
    if panels > _MOST_ROWS:
        return grid(panels, width=_NAMED)
    figure, axes = plt.subplots(panels, squeeze=False, figsize=(_NARROW, 0.3 + 1.55 * panels))
    return figure, list(axes[:, 0])


def pairs(panels: int, lines: Sequence[int] = ()) -> tuple[Figure, list[tuple[Axes, ...]]]:
    """A figure with panels of two axes, one above the other; ``lines`` as in `grid`."""
    return _stacks(panels, 2, 2.0, 1.6, lines)


def _stacks(
    panels: int, size: int, width: float, height: float, lines: Sequence[int], line: float = 0.18
) -> tuple[Figure, list[tuple[Axes, ...]]]:
    columns = int(style.WIDTH / (_NAMED if lines else width))
    columns += -(-panels // columns) > _MOST_ROWS
    rows = -(-panels // columns)
    columns = -(-panels // rows)
    heights = [max(_LEAST, min(height, style.HEIGHT / (size * rows)))] * rows
    if lines:
        heights = [_FRAME + line * max(lines[row * columns : (row + 1) * columns]) for row in range(rows)]
    ratios = [height for height in heights for _ in range(size)]
    figure, axes = plt.subplots(
        size * rows, columns, figsize=(style.WIDTH, sum(ratios)), squeeze=False, height_ratios=ratios
    )
    groups = [tuple(axes[size * row : size * (row + 1), column]) for row in range(rows) for column in range(columns)]
    for axis in (axis for group in groups[panels:] for axis in group):
        axis.set_visible(False)
    return figure, groups[:panels]


def rows_of_methods(axis: Axes, labels: Sequence[str]) -> None:
    """Set one row per method, the first on top."""
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(max(len(labels), 1) - 0.5, -0.5)


def spread(row: int, count: int) -> np.ndarray:
    """Heights of a row's seeds, spread so that equal values stay visible."""
    return row + np.linspace(-0.28, 0.28, count) if count > 1 else np.full(count, float(row))


def interval(axis: Axes, row: float, estimate: Estimate, look: style.Look, factor: float = 1.0) -> None:
    """Draw a method's mean and interval in its row, scaled by ``factor``."""
    if estimate.n:
        axis.plot([estimate.mean * factor] * 2, [row - 0.36, row + 0.36], color=look.colour, lw=2)
    if estimate.has_interval:
        ends = [estimate.low * factor, estimate.high * factor]
        axis.plot(ends, [row, row], color=look.colour, lw=4, alpha=0.35, solid_capstyle="butt")


def line(axis: Axes, values: pd.DataFrame, look: style.Look, label: str, factor: float = 1.0) -> None:
    """Draw a method's mean and the range of its seeds, scaled by ``factor``; ``values`` has columns mean, min, max."""
    mean, low, high = (values[name] * factor for name in ("mean", "min", "max"))
    options: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 3.5}
    axis.plot(values.index, mean, label=label, markevery=max(1, len(values) // 8), **options)
    axis.fill_between(values.index, low, high, color=look.colour, alpha=0.12, linewidth=0)


def errorbars(
    axis: Axes, x: Sequence[float] | NDArray[Any], accuracies: Sequence[Estimate], look: style.Look, label: str
) -> None:
    """Draw a method's accuracies in percent at ``x``, with intervals and a line between them."""
    middle, low, high = PERCENT * np.array([[e.mean, e.low, e.high] for e in accuracies]).T
    shape: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 4}
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
    axis.yaxis.set_minor_formatter(_Plain(labelOnlyBase=False, minor_thresholds=(1.5, 0.4)))


def legend(figure: Figure, axes: Iterator[Axes] | list[Axes], labels: list[str]) -> None:
    """Draw one legend for all panels, above them."""
    handles: dict[str, Artist] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    entries = {label: handles[label] for label in labels if label in handles}
    if entries:
        width = max(_ENTRY, 0.5 + _LETTER * max(map(len, entries)))
        columns = min(len(entries), max(1, int(figure.get_figwidth() / width)))
        figure.set_figheight(figure.get_figheight() + _LINE * -(-len(entries) // columns))
        figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns)
    sns.despine(figure)
