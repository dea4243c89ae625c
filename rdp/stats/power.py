"""Power: the effects and margins that a number of seeds can show."""

import math
from functools import cache

import numpy as np
from scipy import optimize, stats

from rdp.stats.effects import LEVEL

POWER = 0.8  # the usual target


def detectable_effect(n: int, spread: float, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest mean that a two-sided t test over n seeds distinguishes from 0 with the given power.

    It has the unit of ``spread``, the standard deviation over seeds, and is infinite for fewer than two seeds.
    """
    if n < 2:
        return math.inf
    if spread == 0:
        return 0.0
    quantile, errors = stats.t.ppf(1 - level / 2, n - 1), _standard_errors(n)

    def excess_power(shift: float) -> float:
        """The power at a mean of ``shift`` standard errors, less the target."""
        rejections = stats.norm.sf(quantile * errors - shift) + stats.norm.cdf(-quantile * errors - shift)
        return float(rejections.mean()) - power

    return float(optimize.brentq(excess_power, 0.0, 10 * quantile)) / math.sqrt(n) * spread


def equivalence_power(n: int, spread: float, margin: float, level: float = LEVEL) -> float:
    """The probability that two one-sided t tests show a true mean of 0 to lie within a margin.

    Given the sample's spread s, the tests succeed where the sample's mean lies within the margin less t s / sqrt(n).
    The probability is averaged over the distribution of s.
    """
    if n < 2:
        return 0.0
    if spread == 0:
        return 1.0
    error = spread / math.sqrt(n)
    quantile = stats.t.ppf(1 - level, n - 1)
    reach = np.clip(margin - quantile * error * _standard_errors(n), 0, None)
    return float((2 * stats.norm.cdf(reach / error) - 1).mean())


def equivalence_margin(n: int, spread: float, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest margin within which n seeds show a true mean of 0 with the given power."""
    if n < 2:
        return math.inf
    if spread == 0:
        return 0.0
    error = spread / math.sqrt(n)
    certain = error * (10 + stats.t.ppf(1 - level, n - 1) * _standard_errors(n).max())
    return float(optimize.brentq(lambda margin: equivalence_power(n, spread, margin, level) - power, 0.0, certain))


@cache
def _standard_errors(n: int) -> np.ndarray:
    """2,000 quantiles of a sample's standard error, as multiples of the true one."""
    shares = (np.arange(2000) + 0.5) / 2000
    return np.asarray(np.sqrt(stats.chi2.ppf(shares, n - 1) / (n - 1)))
