"""The computation and training of one optimizer step, as a value."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

FrozenNorm = Literal["update", "batch", "eval"]


@dataclass(frozen=True, eq=False)
class Iteration:
    """One optimizer step: the active units and the trained parameters.

    Attributes:
        kind: name of the step for logs and statistics: ``full``, ``drop``, ``recover`` or ``freeze``.
        active: units to compute, booleans of shape (units,) for the whole mini-batch or (units, batch) per example;
            None for all.
        scale: factor on the output of each active branch, shape (units,); None for 1.
        trained: units whose parameters are trained, booleans of shape (units,); None for all. Other units are frozen:
            their gradients are None, so neither momentum nor weight decay changes them.
        rest_trained: whether parameters outside all units (stem, down-sampling, head) are trained.
        frozen_norm: behaviour of batch normalisation in frozen modules: ``update`` normalises by batch statistics and
            updates the running ones, ``batch`` normalises by batch statistics only, ``eval`` normalises by the
            running statistics.
        batch: step whose mini-batch is used; None for this step's own.
    """

    kind: str
    active: np.ndarray | None = None
    scale: np.ndarray | None = None
    trained: np.ndarray | None = None
    rest_trained: bool = True
    frozen_norm: FrozenNorm = "update"
    batch: int | None = None

    def of(self, examples: slice) -> "Iteration":
        """The same iteration for some examples of the mini-batch: selects their columns of a per-example mask."""
        if self.active is None or self.active.ndim == 1:
            return self
        return replace(self, active=self.active[:, examples])


FULL = Iteration("full")
