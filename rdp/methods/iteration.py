"""What one optimizer step computes and trains."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

FrozenNorm = Literal["update", "batch", "eval"]


@dataclass(frozen=True, eq=False)
class Iteration:
    """One optimizer step, as a method asks for it.

    Attributes:
        kind: what the step is called: ``full``, ``drop``, ``recover`` or ``freeze``.
        active: which units are computed: booleans of shape (units,) for the whole mini-batch, or
            (units, batch) for each example of its own; None for all.
        scale: factor on each active branch's output, shape (units,); None for one.
        trained: which units' parameters are trained, booleans of shape (units,); None for all. The others are
            frozen: no gradient, so neither momentum nor weight decay moves them.
        rest_trained: whether what belongs to no unit (stem, down-sampling, head) is trained.
        frozen_norm: what batch normalisation does where parameters are frozen: ``update`` (normalise by batch
            statistics and update the running ones, as anywhere else), ``batch`` (keep the running ones as they
            are) or ``eval`` (normalise by the running ones).
        batch: the step whose mini-batch is trained on; None for the step's own.
    """

    kind: str
    active: np.ndarray | None = None
    scale: np.ndarray | None = None
    trained: np.ndarray | None = None
    rest_trained: bool = True
    frozen_norm: FrozenNorm = "update"
    batch: int | None = None

    def of(self, part: slice) -> "Iteration":
        """The iteration of a part of the mini-batch: masks of single examples are those of its examples."""
        if self.active is None or self.active.ndim == 1:
            return self
        return replace(self, active=self.active[:, part])


FULL = Iteration("full")
