"""Power: what seeds could have shown."""

import math
from functools import cache

import numpy as np
from scipy import optimize, stats

from rdp.stats.effects import LEVEL

POWER = 0.8  # what is asked for


def detectable(n: int, spread: float, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest mean that n seeds of some spread would show to be other than 0, with that power.

    Two-sided t test. Infinite for fewer than two seeds.
    """
    if n < 2:
        return math.inf
    if spread == 0:
        return 0.0
    quantile, sample = stats.t.ppf(1 - level / 2, n - 1), _errors(n)

    def lacking(shift: float) -> float:
        """What the power lacks at a mean of so many standard errors."""
        found = stats.norm.sf(quantile * sample - shift) + stats.norm.cdf(-quantile * sample - shift)
        return float(found.mean()) - power

    return float(optimize.brentq(lacking, 0.0, 10 * quantile)) / math.sqrt(n) * spread


def of_equivalence(n: int, spread: float, margin: float, level: float = LEVEL) -> float:
    """Probability that two one-sided t tests find a mean of 0 to be within a margin.

    They do where the spread s of the sample is so small that t s / sqrt(n) leaves room within the margin, and the
    sample's mean lies in it: integrated over the distribution of s.
    """
    if n < 2:
        return 0.0
    if spread == 0:
        return 1.0
    error = spread / math.sqrt(n)
    quantile = stats.t.ppf(1 - level, n - 1)
    room = np.clip(margin - quantile * error * _errors(n), 0, None)
    return float((2 * stats.norm.cdf(room / error) - 1).mean())


def within(n: int, spread: float, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest margin within which n seeds of some spread would show a mean of 0 to lie, with that power."""
    if n < 2:
        return math.inf
    low, high = 0.0, spread
    while of_equivalence(n, spread, high, level) < power:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if of_equivalence(n, spread, middle, level) < power else (low, middle)
    return high


@cache
def _errors(n: int) -> np.ndarray:
    """Equally likely values of a sample's standard error, as multiples of the true one."""
    shares = (np.arange(2000) + 0.5) / 2000
    return np.asarray(np.sqrt(stats.chi2.ppf(shares, n - 1) / (n - 1)))
