"""Figure of surviving neurons by depth, with their lower bound and closed form."""

from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rdp.claims.metrics.layers import closed_form
from rdp.report import style
from rdp.report.plots import common
from rdp.study.comparisons import Setting
from rdp.tables import Tables, measurements
from rdp.utils.humanize import PERCENT

FIGURES = {"surviving_neurons": {"probe": "surviving_neurons"}}


def surviving_neurons(tables: Tables) -> common.Drawing:
    """Share of pre-activations above 0 by depth, at initialisation and trained, with Cantelli's bound."""
    measured = tables.probe("surviving_neurons")
    measured = measured[measured["source"] == "data"]
    panels = tables.panels(measured)
    figure, axes = common.pairs(len(panels))
    looks, rows = style.looks(tables.labels), []
    for pair, (setting, layers) in zip(axes, panels, strict=True):
        for axis, (stage, words) in zip(pair, common.STAGES, strict=True):
            of_stage = layers[layers["stage"] == stage]
            # Rectifiers inside a branch and at the end of its block differ, so each gets a line.
            inside = of_stage["name"].astype(str).str.contains("branch")
            for label, where in product(tables.labels, (True, False)):
                mine, look = of_stage[(of_stage["method"] == label) & (inside == where)], looks[label]
                if mine.empty:
                    continue
                by = mine.groupby("layer")
                line = by["positive"].agg(["mean", "min", "max", "count"]).assign(bound=by["bound"].mean())
                common.line(axis, line, look, label, PERCENT)
                axis.plot(line.index, line["bound"] * PERCENT, color=look.colour, linestyle=":", lw=1, alpha=0.7)
                key = setting.key | {"stage": stage, "method": label}
                rows.append(line.reset_index().assign(inside_branch=where, **key))
            if stage == "initial":
                rows += _closed_forms(axis, tables, setting)
            axis.set_title(f"{setting.title}, {words}")
            axis.set_ylabel("pre-activations above 0 (%)")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        pair[1].set_xlabel("rectifier, from the input")
    common.legend(figure, [axis for pair in axes for axis in pair], tables.labels)
    closed = " Black crosses: closed form." if any("closed_form" in part for part in rows) else ""
    sample = f"First {measurements.EXAMPLES} test examples. Lines: mean over seeds. Bands: lowest to highest seed."
    style.note(figure, f"{sample} Dotted: Cantelli's bound from the mean and variance of all pre-activations.{closed}")
    return common.Drawing(figure, pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["layer"]))


def _closed_forms(axis: Axes, tables: Tables, setting: Setting) -> list[pd.DataFrame]:
    rows = []
    for cell in tables.plan.cells:
        closed = closed_form(cell)
        if (cell.architecture, cell.dataset) != (setting.architecture, setting.dataset) or not closed:
            continue
        by = pd.DataFrame({"layer": closed.keys(), "closed_form": closed.values()})
        axis.scatter(by["layer"], by["closed_form"] * PERCENT, s=14, marker="x", color="black", lw=0.8, zorder=3)
        rows.append(by.assign(**setting.key, stage="initial", method=cell.label))
    return rows
