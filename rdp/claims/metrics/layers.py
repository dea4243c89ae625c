"""Metrics from probes: feature reuse, reconstruction of the input, surviving neurons."""

from typing import TYPE_CHECKING, cast, get_args

from rdp import models
from rdp.claims import theory
from rdp.claims.metrics import Metric
from rdp.utils.humanize import PERCENT

if TYPE_CHECKING:
    import pandas as pd

    from rdp.study import Cell
    from rdp.tables import Tables


def _mean(rows: "pd.DataFrame", quantity: str) -> "pd.Series[float]":
    """The mean of a quantity over layers, by seed."""
    return rows[rows["quantity"] == quantity].groupby("seed")["value"].mean()


def _redundancy(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
    return _mean(rows, "redundancy")


def _beyond_chance(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
    return _mean(rows, "redundancy") - _mean(rows, "redundancy_independent")


def _lesion(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
    """Mean accuracy with one unit deleted minus that of the intact network, in points."""
    intact = rows[(rows["quantity"] == "lesion_last") & (rows["layer"] == 0)].groupby("seed")["value"].mean()
    return (_mean(rows, "lesion") - intact) * PERCENT


def _reconstruction(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
    """R^2 of the input from the last layer's output; 0 where the prediction is worse than the mean."""
    layers = rows[(rows["quantity"] == "reconstruction") & (rows["source"] == "data")]
    return layers.sort_values("layer").groupby("seed")["value"].last().clip(lower=0.0)


def _survival(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
    """Share of pre-activations above 0, mean over layers."""
    return rows[rows["source"] == "data"].groupby("seed")["positive"].mean()


def _survival_error(rows: "pd.DataFrame", cell: "Cell", tables: "Tables") -> "pd.Series[float]":
    """Largest distance over layers between the share of pre-activations above 0 and its closed form."""
    layers = rows[rows["source"] == "data"]
    distance = (layers["positive"] - layers["layer"].map(closed_form(cell))).abs()
    return distance.groupby(layers["seed"]).max()


def closed_form(cell: "Cell") -> dict[int, float]:
    """Survival by layer from `rdp.claims.theory`; empty where the theory does not apply.

    It applies to networks without norms behind a linear stem, whose output has mean 0.
    """
    architecture, method = models.architecture(cell.architecture), cell.specs[0].instance
    path = method.path_options().get("variant", method.path)
    if architecture.family != "bare_mlp" or path not in get_args(theory.PathName):
        return {}
    # Survival does not depend on the scale, so any second moment does.
    layers = theory.by_depth(cast("theory.PathName", path), architecture.depth, mean=0.0, second=1.0)
    return {layer.layer: layer.survival for layer in layers}


_INPUT = ("dissipation_untrained", "dissipation_trained")
_REUSE = ("redundancy", "reuse_matrices")
_DELETED = "accuracy that deleting one unit changes, mean over units"
_RECOVERED = "R² of the input from the last layer, at least 0"
_APART = "redundancy minus that between two independently trained networks"
_SHARE = "share of pre-activations above 0, mean over layers"
_ERROR = "largest distance of survival from its closed form"
_PROBE = "surviving_neurons"  # and the figure that shows it

METRICS = {
    "lesion": Metric("points", _DELETED, _lesion, "feature_reuse", figures=("lesions",)),
    "reconstruction": Metric("R²", _RECOVERED, _reconstruction, "dissipating_inputs", figures=_INPUT),
    "redundancy": Metric("CKA", "redundancy of branches", _redundancy, "feature_reuse", figures=_REUSE),
    "redundancy_beyond_chance": Metric("CKA", _APART, _beyond_chance, "feature_reuse", figures=_REUSE),
    "survival": Metric("", _SHARE, _survival, _PROBE, figures=(_PROBE,)),
    "survival_error": Metric("", _ERROR, _survival_error, _PROBE, figures=(_PROBE,)),
}
