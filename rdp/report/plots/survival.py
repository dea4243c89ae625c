"""Surviving neurons, by depth."""

from itertools import product

import pandas as pd
from matplotlib.ticker import MaxNLocator

from rdp import measure
from rdp.report import style
from rdp.report.plots import common
from rdp.report.tables import Tables


def surviving_neurons(tables: Tables) -> common.Drawing:
    """Share of pre-activations above 0, by depth, at initialisation and trained."""
    measured = tables.probe("surviving_neurons")
    panels = tables.panels(measured)
    figure, axes = common.pairs(len(panels))
    looks, rows = style.looks(tables.labels), []
    for pair, (setting, layers) in zip(axes, panels, strict=True):
        for axis, stage in zip(pair, ("initial", "trained"), strict=True):
            here = layers[layers["stage"] == stage] if len(measured) else layers
            # The rectifier inside a branch and the one that closes its block are two stories: a line each.
            inside = here["name"].str.contains("branch") if len(measured) else pd.Series(dtype=bool)
            for label, where in product(tables.labels, (True, False)):
                mine, look = here[(here["method"] == label) & (inside == where)], looks[label]
                if mine.empty:
                    continue
                line = mine.groupby("layer")["positive"].agg(["mean", "min", "max", "count"]) * [100, 100, 100, 1]
                common.line(axis, line, look, label)
                key = setting.key | {"stage": stage, "method": label}
                rows.append(line.reset_index().assign(inside_branch=where, **key))
            axis.set_title(f"{setting.title}, {'at initialisation' if stage == 'initial' else 'trained'}")
            axis.set_ylabel("pre-activations above 0 (%)")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        pair[1].set_xlabel("rectifier, from the input on")
    common.legend(figure, [axis for pair in axes for axis in pair], tables.labels)
    style.note(
        figure, f"First {measure.EXAMPLES} test examples. Lines: mean over seeds. Bands: lowest to highest seed."
    )
    return common.Drawing(figure, pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["layer"]))
