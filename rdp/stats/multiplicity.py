"""Holm's correction for several tests of one claim."""

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given (Holm, Scand. J. Stat. 6, 1979).

    The k-th smallest of n is multiplied by n - k + 1, and is at least the one before it. Rejecting below a level
    keeps the chance of any false rejection below that level.
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    return [float(value) for value in adjusted]
