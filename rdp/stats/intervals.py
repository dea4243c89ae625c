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
        mean: of the n values; NaN where there is none.
        low, high: ends of the interval; NaN where n < 2, for one value says nothing of the spread.
        n: how many values.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def has_interval(self) -> bool:
        """Whether there were values enough for an interval."""
        return not math.isnan(self.low)

    def excludes(self, value: float) -> bool:
        """Whether the interval is known and lies to one side of ``value``."""
        return self.has_interval and not self.low <= value <= self.high


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Estimate:
    """Mean with a two-sided t interval, mean +- t(n - 1) s / sqrt(n) (Student, Biometrika 6, 1908).

    Args:
        values: shape (n,), one a seed, taken as independent draws; NaN is not allowed.
        level: coverage of the interval.
    """
    values = np.asarray(values, dtype=float)
    if np.isnan(values).any():
        raise ValueError("a value is missing; leave such runs out, and say so")
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

    The same seed gives both methods the same initial weights where shapes agree, and the same order of data, so
    that what is common to a seed cancels.

    Args:
        first, second: a value by seed.
        level: coverage of the interval.
    """
    seeds = sorted(first.keys() & second.keys())
    return mean_interval([first[seed] - second[seed] for seed in seeds], level)
