"""How a mean over independent, seeded draws is held against what it should be."""

import math

import numpy as np


def assert_mean(draws: np.ndarray, expected: object, at_most: float | np.ndarray) -> None:
    """The mean over the first axis is as expected within 4.5 standard errors, and known well enough to say something.

    Args:
        draws: shape (n, …).
        at_most: what a standard error may be.
    """
    error = draws.std(0, ddof=1) / math.sqrt(len(draws))
    assert (error < at_most).all(), error.max(0)
    deviation = np.abs(draws.mean(0) - np.asarray(expected)) / (error + 1e-12)
    assert np.max(deviation) < 4.5, np.round(deviation, 1)
