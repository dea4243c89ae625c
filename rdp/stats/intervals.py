"""Means over seeds and paired differences, with Student's t intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rdp.stats.effects import Effect


@dataclass(frozen=True)
class Estimate:
    """A mean over n values (NaN for n = 0) and the ends of its interval (NaN for n < 2)."""

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
    """Mean of finite values with a two-sided t interval, mean +- t(n - 1) s / sqrt(n) (Student, Biometrika 6, 1908)."""
    effect = Effect(tuple(map(float, values)))
    return Estimate(effect.mean, *effect.interval(level), effect.n)


def paired_difference(first: dict[int, float], second: dict[int, float], level: float = 0.95) -> Estimate:
    """Mean of ``first - second`` over the seeds that both have, with a t interval. Values are given by seed.

    The same seed gives both methods the same initial weights, where shapes agree, and the same order of data. So
    the part of the variance that a seed determines cancels.
    """
    seeds = sorted(first.keys() & second.keys())
    return mean_interval([first[seed] - second[seed] for seed in seeds], level)
