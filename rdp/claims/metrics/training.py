"""Metrics from the records of runs: accuracy, loss, parameters, cost."""

from typing import TYPE_CHECKING

import numpy as np

from rdp.claims.metrics import Metric
from rdp.utils.humanize import PERCENT

if TYPE_CHECKING:
    import pandas as pd

    from rdp.claims.metrics import Compute
    from rdp.study import Cell
    from rdp.tables import Tables


def _accuracy(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
    return rows.set_index("seed")["accuracy"] * PERCENT


def _column(name: str) -> "Compute":
    """A column of the records, of completed runs only: a diverged run stopped early and cost less."""

    def column(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
        return rows[rows["status"] == "completed"].set_index("seed")[name].astype(float)

    return column


def _final_loss(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
    """Mean training loss of the last epoch over the loss of guessing; 1 for a diverged run."""
    epochs = tables.history[tables.history["run"].isin(rows["run"])]
    last = epochs.sort_values("epoch").groupby("seed")["train_loss"].last()
    guessing = -np.log(rows["chance"].iloc[0])
    losses = (last / guessing).reindex(rows["seed"])
    return losses.where(rows.set_index("seed")["status"] != "diverged", 1.0)


_FITTED, _GAP = 99.0, 5.0  # percent of training accuracy; points between training and test accuracy


def fit(rows: "pd.DataFrame") -> "pd.Series[float]":
    """By how many points a network has fitted its training data, by seed; negative if it underfits.

    The larger of training accuracy minus `_FITTED`, and training minus test accuracy minus `_GAP`. Training accuracy is
    the running one of the last epoch: of the mini-batches as they are trained on, augmented and mixed, while the
    weights still change. The trained network is usually more accurate than that. A diverged run has the accuracies of
    chance.
    """
    by_seed = rows.set_index("seed")
    train = by_seed["train_accuracy"].where(by_seed["status"] != "diverged", by_seed["chance"])
    test = by_seed["accuracy"]
    points = np.maximum(PERCENT * train - _FITTED, PERCENT * (train - test) - _GAP)
    return points.round(9)  # 99 % less 99 is 0, in spite of rounding errors


def _fit(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
    return fit(rows)


_FIT = (
    "the larger of training accuracy minus 99 and of training minus test accuracy minus 5; training accuracy is that "
    "of the mini-batches of the last epoch"
)
_BY_ACCURACY = ("differences", "accuracy_by_depth", "accuracy")
_FINAL = "training loss of the last epoch, over that of guessing"
_SWEPT = "training loss at the sweep's best rate, over that of guessing"

METRICS = {
    "accuracy": Metric("points", "test accuracy after the last epoch", _accuracy, spread=1.0, figures=_BY_ACCURACY),
    "final_loss": Metric("of guessing", _FINAL, _final_loss, figures=("training_curves", "convergence")),
    "fit": Metric("points", _FIT, _fit, figures=("training_curves",)),
    "loss_at_best_rate": Metric("of guessing", _SWEPT, figures=("convergence", "learning_rates")),
    "parameters": Metric("", "parameters", _column("parameters"), relative=True, exact=True, figures=("frontier",)),
    "throughput": Metric("", "training throughput", relative=True, figures=("throughput",)),
    "training_flops": Metric(
        "", "counted operations of training", _column("training_flops"), relative=True, figures=("cost",)
    ),
}
