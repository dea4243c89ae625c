"""Reliability diagram: accuracy against confidence."""

import pandas as pd

from rdp.report import style
from rdp.report.plots import common
from rdp.tables import Tables

FIGURES = {
    "reliability": {
        "probe": "calibration",
        "title": "Reliability",
        "caption": "Accuracy of the examples in each bin of confidence. A calibrated network lies on the diagonal.",
        "alt": "Accuracy against confidence of each method's trained networks, one panel per setting.",
    }
}


def reliability(tables: Tables) -> common.Drawing:
    """Accuracy by confidence, mean over seeds, one line per method and one panel per setting."""
    table = tables.probe("calibration")
    table = table[table["stage"] == "trained"]
    panels = tables.panels(table)
    figure, axes = common.grid(len(panels))
    looks, rows = style.looks(tables.labels), []
    for axis, (setting, values) in zip(axes, panels, strict=True):
        axis.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle=":")
        for label in tables.labels:
            bins = values[values["method"] == label].groupby("bin")[["confidence", "accuracy"]].mean()
            look = looks[label]
            axis.plot(bins["confidence"], bins["accuracy"], marker=look.marker, color=look.colour, label=label)
            rows.append(bins.reset_index().assign(**setting.key, method=label))
        axis.set_title(setting.title)
        axis.set_xlabel("confidence")
    axes[0].set_ylabel("accuracy")
    common.legend(figure, axes, tables.labels)
    style.note(figure, "Dotted: perfect calibration. Lines: mean over seeds.")
    return common.Drawing(figure, pd.concat(rows, ignore_index=True))
