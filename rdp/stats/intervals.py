"""Means over seeds and paired differences, with Student's t intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval.

    Attributes:
        mean: over n values; NaN for n = 0.
        low, high: ends of the interval; NaN for n < 2.
        n: number of values.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def has_interval(self) -> bool:
        """Whether there are enough values for an interval."""
        return not math.isnan(self.low)

    def excludes(self, value: float) -> bool:
        """Whether there is an interval and ``value`` lies outside it."""
        return self.has_interval and not self.low <= value <= self.high


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Estimate:
    """Mean with a two-sided t interval, mean +- t(n - 1) s / sqrt(n) (Student, Biometrika 6, 1908).

    Args:
        values: one per seed, shape (n,), independent draws; NaN is not allowed.
        level: coverage of the interval.
    """
    values = np.asarray(values, dtype=float)
    if np.isnan(values).any():
        raise ValueError("a value is missing; leave out its run and report that")
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def paired_difference(first: dict[int, float], second: dict[int, float], level: float = 0.95) -> Estimate:
    """Mean of ``first - second`` over the seeds that both have, with a t interval.

    The same seed gives both methods the same initial weights, where shapes agree, and the same order of data. So
    the part of the variance that a seed determines cancels.

    Args:
        first, second: value by seed.
        level: coverage of the interval.
    """
    seeds = sorted(first.keys() & second.keys())
    return mean_interval([first[seed] - second[seed] for seed in seeds], level)
