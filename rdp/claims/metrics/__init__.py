"""Metrics of claims: this project's, then the user's (`rdp.utils.extensions`).

A module of this package defines ``METRICS``, a mapping from a metric's name to its `Metric`. A claim uses a metric by
its name. To add one, add ``extensions/metrics/NAME.py``.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from rdp.errors import UserError
from rdp.utils import extensions

if TYPE_CHECKING:
    import pandas as pd

    from rdp.study import Cell
    from rdp.tables import Tables

    Compute = Callable[[pd.DataFrame, Cell, Tables], "pd.Series[float]"]

__path__ = extensions.search_path(__path__, "metrics")


@dataclass(frozen=True)
class Metric:
    """A quantity that claims compare: one number per seed.

    Attributes:
        unit: unit of the numbers; empty for a share or a count.
        description: what it measures, in a few words.
        compute: a function of the cell's rows, the cell and the study's tables that returns the numbers by seed. The
            rows are those of ``probe`` at the claim's stage, or the cell's records where there is no probe. None where
            `rdp.claims.evidence` computes the metric itself.
        probe: the probe whose measurements it needs, or None.
        relative: whether two methods are compared by their ratio minus 1 instead of by their difference.
        exact: whether it is counted and equal for every seed, so that one run is enough.
        spread: standard deviation over seeds of a paired difference, in the metric's unit, for planning; None where it
            is not known.
        figures: figures that show it, the plainest first.
    """

    unit: str
    description: str
    compute: "Compute | None" = None
    probe: str | None = None
    relative: bool = False
    exact: bool = False
    spread: float | None = None
    figures: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """The fields that define the metric, for the digest of a claim."""
        names = ("unit", "description", "probe", "relative", "exact", "spread")
        return {name: getattr(self, name) for name in names}


@cache
def available() -> dict[str, Metric]:
    """All metrics by name.

    Raises:
        UserError: a file without ``METRICS``, or two files with a metric of the same name.
    """
    metrics: dict[str, Metric] = {}
    for name, file in extensions.modules(sys.modules[__name__]).items():
        module = extensions.load(f"{__name__}.{name}")
        if not isinstance(getattr(module, "METRICS", None), dict):
            raise UserError(f"{file}: METRICS is missing; define METRICS = {{name: Metric(...)}}")
        for metric, definition in module.METRICS.items():
            if metric in metrics:
                raise UserError(f"{file}: another file defines the metric '{metric}'; rename it")
            metrics[metric] = definition
    return dict(sorted(metrics.items()))


def modules() -> list[str]:
    """The full names of the modules that define metrics."""
    return [f"{__name__}.{name}" for name in extensions.modules(sys.modules[__name__])]
