"""Expected calibration error, from the probe ``calibration``."""

import pandas as pd

from rdp.claims.metrics import Metric
from rdp.study import Cell
from rdp.tables import Tables


def _error(rows: pd.DataFrame, cell: Cell, tables: Tables) -> pd.Series:
    """The mean distance between confidence and accuracy over examples, in points, by seed."""
    distance = 100 * (rows["confidence"] - rows["accuracy"]).abs() * rows["examples"]
    by_seed = rows["seed"]
    return distance.groupby(by_seed).sum() / rows["examples"].groupby(by_seed).sum()


METRICS = {
    "calibration_error": Metric(
        unit="points",
        description="expected calibration error",
        compute=_error,
        probe="calibration",
        figures=("reliability",),
    )
}
