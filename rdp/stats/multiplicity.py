"""Several tests of one claim: Holm's correction."""

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm, Scand. J. Stat. 6, 1979), in their order.

    The k-th smallest of n times n - k + 1, and never below a smaller one's; what is below a level keeps the chance of
    any false finding among them below that level.
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    return [float(value) for value in adjusted]
