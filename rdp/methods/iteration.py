"""What one optimizer step computes and trains."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Iteration:
    """One optimizer step, as a method asks for it.

    Attributes:
        kind: what the step is called in records: ``full``, ``drop`` or ``recover``.
        active: which units are computed: booleans of shape (units,) for the whole mini-batch, or
            (units, batch) for each example of its own; None for all.
        scale: factor on each active branch's output, shape (units,); None for one.
        trained: which units' parameters are trained, booleans of shape (units,); None for all. The others are
            frozen: no gradient, so neither momentum nor weight decay moves them.
        rest_trained: whether what belongs to no unit (stem, down-sampling, head) is trained.
    """

    kind: str
    active: np.ndarray | None = None
    scale: np.ndarray | None = None
    trained: np.ndarray | None = None
    rest_trained: bool = True


FULL = Iteration("full")
