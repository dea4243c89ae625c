"""Figure of the documentation: how close training steps come to a machine's limit, from a result of `rdp bench limit`.

It belongs to no study, so it is not in ``FIGURES``.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from rdp.report import style
from rdp.report.plots import common
from rdp.utils.humanize import PERCENT, count

_WIDE = 9  # percent of a step: kinds that take more have their share written above their bar
_HATCHES = ("", "//", "..", "xx", "\\\\", "")


def draw(result: Mapping[str, Any]) -> common.Drawing:
    """One panel per architecture and precision; ``result`` is the content of ``limit.json``.

    The width of a bar is the time that a kind of operation takes, and its height the share of its limit. So the grey
    area is the time above the limit.
    """
    rows = result["rows"]
    kinds = [kind["kind"] for kind in rows[0]["kinds"]]
    looks, shown = style.looks(kinds), []
    figure, axes = common.grid(len(rows), width=3.4, height=2.5)
    ordered = sorted(rows, key=lambda row: row["precision"] != rows[0]["precision"])  # a row of panels per precision
    for axis, row in zip(axes, ordered, strict=True):
        shown.append(_table(row))
        _panel(axis, shown[-1], looks)
        axis.set_title(f"{row['architecture']}, {row['precision']}: {_percent(row['share']['median'])}")
        axis.set(xlim=(0, PERCENT), ylim=(0, PERCENT), xlabel="% of the step's time", ylabel="% of the limit")
    common.legend(figure, axes, kinds[:-1])  # the last one, the rest of the step, has no limit
    machine, setting = result["machine"]["stack"]["device"].partition(", cpu family")[0], result["setting"]
    peaks = rows[0]["peaks"]
    rates = [f"{precision} {rate / 1e9:,.0f} GFLOP/s" for precision, rate in peaks["flops"].items()]
    ends = (peaks["memory"][0], peaks["memory"][-1])
    rates += [f"{end['working_set'] / 2**20:g} MiB at {end['rate'] / 1e9:,.0f} GB/s" for end in ends]
    marks = (
        "Titles: share of the limit that the whole step reaches. Grey: time above the limit; at the right, the rest."
    )
    conditions = f"{machine}, {count(setting['threads'], 'thread')}, batch {setting['batch_size']}"
    style.note(figure, f"{marks} {conditions}. Highest rates measured: {'; '.join(rates)}.")
    return common.Drawing(figure, pd.concat(shown, ignore_index=True))


def _table(row: Mapping[str, Any]) -> pd.DataFrame:
    """A step's kinds, with their shares of its time and of their limits."""
    total = sum(kind["seconds"] for kind in row["kinds"])
    return pd.DataFrame(
        {
            "architecture": row["architecture"],
            "precision": row["precision"],
            "kind": [kind["kind"] for kind in row["kinds"]],
            "time": [kind["seconds"] / total for kind in row["kinds"]],
            "share": [kind["share"]["median"] if kind["share"] else 0.0 for kind in row["kinds"]],
        }
    )


def _panel(axis: Axes, kinds: pd.DataFrame, looks: Mapping[str, style.Look]) -> None:
    left = 0.0
    for kind, hatch in zip(kinds.itertuples(), _HATCHES, strict=True):
        width, height = PERCENT * kind.time, PERCENT * kind.share
        axis.bar(left, PERCENT, width, align="edge", color="0.92", edgecolor="white", linewidth=0.6, zorder=2)
        bar: dict[str, Any] = {"align": "edge", "color": looks[kind.kind].colour, "edgecolor": "white", "linewidth": 0}
        axis.bar(left, height, width, hatch=hatch, label=kind.kind, zorder=3, **bar)
        if width > _WIDE and kind.share:
            axis.annotate(
                _percent(kind.share),
                (left + width / 2, height),
                (0, 2),
                textcoords="offset points",
                size=7,
                ha="center",
                zorder=4,
            )
        left += width


def _percent(share: float) -> str:
    return f"{PERCENT * share:.0f} %"
