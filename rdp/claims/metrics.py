"""Metrics of claims that tables of records and probes tell: one number a seed. `rdp.claims.evidence` has the others."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pandas as pd

from rdp import models
from rdp.claims import theory
from rdp.study import Cell
from rdp.tables import Tables
from rdp.utils.humanize import PERCENT


def _accuracies(rows: pd.DataFrame, tables: Tables) -> pd.Series:
    return rows.set_index("seed")["accuracy"] * PERCENT


def _column(name: str) -> Callable[[pd.DataFrame, Tables], pd.Series]:
    def column(rows: pd.DataFrame, tables: Tables) -> pd.Series:
        done = rows[rows["status"] == "completed"]  # a diverged run stopped on the way: its cost is not the method's
        return done.set_index("seed")[name].astype(float)

    return column


def _final_loss(rows: pd.DataFrame, tables: Tables) -> pd.Series:
    """Mean training loss of the last epoch, as a share of the loss of guessing; 1 for a diverged run."""
    here = tables.history[tables.history["run"].isin(rows["run"])]
    last = here.sort_values("epoch").groupby("seed")["train_loss"].last()
    guessing = -np.log(rows["chance"].iloc[0])
    found = (last / guessing).reindex(rows["seed"])
    return found.where(rows.set_index("seed")["status"] != "diverged", 1.0)


def _of_quantity(rows: pd.DataFrame, quantity: str) -> pd.Series:
    """A probe's quantity, its mean over layers, by seed."""
    return rows[rows["quantity"] == quantity].groupby("seed")["value"].mean()


def _beyond_chance(rows: pd.DataFrame, cell: Cell) -> pd.Series:
    return _of_quantity(rows, "redundancy") - _of_quantity(rows, "redundancy_independent")


def _lesion(rows: pd.DataFrame, cell: Cell) -> pd.Series:
    """Accuracy without one unit, the mean over units, less that of the intact network, in points."""
    intact = rows[(rows["quantity"] == "lesion_last") & (rows["layer"] == 0)].groupby("seed")["value"].mean()
    return (_of_quantity(rows, "lesion") - intact) * PERCENT


def _reconstruction(rows: pd.DataFrame, cell: Cell) -> pd.Series:
    """R^2 of the input from what the last layer writes; 0 where it tells held-out inputs no better than their mean."""
    here = rows[(rows["quantity"] == "reconstruction") & (rows["source"] == "data")]
    return here.sort_values("layer").groupby("seed")["value"].last().clip(lower=0.0)


def _survival(rows: pd.DataFrame, cell: Cell) -> pd.Series:
    """The share of pre-activations above 0, the mean over layers."""
    return rows[rows["source"] == "data"].groupby("seed")["positive"].mean()


def closed_form(cell: Cell) -> dict[int, float]:
    """Survival by layer as `rdp.claims.theory` has it; empty for a network that it does not speak of.

    That is any but one without norms, behind a linear stem, which writes mean 0.
    """
    architecture, method = models.architecture(cell.architecture), cell.specs[0].instance
    path = method.path_options().get("variant", method.path)
    if architecture.family != "bare_mlp" or path not in get_args(theory.PathName):
        return {}
    layers = theory.by_depth(path, architecture.depth, mean=0.0, second=1.0)  # survival knows no scale
    return {layer.layer: layer.survival for layer in layers}


def _survival_error(rows: pd.DataFrame, cell: Cell) -> pd.Series:
    """The largest distance of a layer's share of pre-activations above 0 from its closed form."""
    closed = closed_form(cell)
    here = rows[rows["source"] == "data"]
    distance = (here["positive"] - here["layer"].map(closed)).abs()
    return distance.groupby(here["seed"]).max()


RECORDED: dict[str, Callable[[pd.DataFrame, Tables], pd.Series]] = {
    "accuracy": _accuracies,
    "final_loss": _final_loss,
    "parameters": _column("parameters"),
    "training_flops": _column("training_flops"),
}
PROBED: dict[str, Callable[[pd.DataFrame, Cell], pd.Series]] = {
    "redundancy": lambda rows, cell: _of_quantity(rows, "redundancy"),
    "redundancy_beyond_chance": _beyond_chance,
    "lesion": _lesion,
    "reconstruction": _reconstruction,
    "survival": _survival,
    "survival_error": _survival_error,
}
