"""Effects: the mean of one number per seed, its standard error, interval and tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import special, stats

LEVEL = 0.05  # significance level of every test
_NORMAL = float(stats.norm.ppf(1 - LEVEL / 2))
_SIGN_FLIPS = 2**16  # all of them for up to 16 seeds; a random sample for more
_ROUNDING = 1e-9  # a spread below this share of the mean is rounding error

Direction = Literal["above", "below", "within"]


@dataclass(frozen=True)
class Effect:
    """One number per seed, such as the difference of two methods' accuracies, and the standard error of its mean.

    Attributes:
        values: one number per seed, shape (n,). Seeds are independent draws.
        test_set_variance: variance of the mean due to the choice of test examples, which all seeds share; see
            `accuracy_difference`. 0 without a test set.
        examples: number of test examples; 0 without a test set.
        minimum_error: lower bound of the standard error: the weight of one test example.
        inflation: factor on the standard error for seeds that are not independent.
    """

    values: tuple[float, ...]
    test_set_variance: float = 0.0
    examples: int = 0
    minimum_error: float = 0.0
    inflation: float = 1.0

    def __post_init__(self) -> None:
        if any(not math.isfinite(value) for value in self.values):
            raise ValueError("a value is missing or infinite; leave out its seed and report that")

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(self.values)

    @property
    def has_spread(self) -> bool:
        """Whether there are at least two seeds."""
        return self.n > 1

    @cached_property
    def mean(self) -> float:
        """The mean over seeds; NaN without seeds."""
        return float(np.mean(self.values)) if self.values else math.nan

    @cached_property
    def spread(self) -> float:
        """The standard deviation over seeds; NaN for fewer than two."""
        return float(np.std(self.values, ddof=1)) if self.has_spread else math.nan

    @cached_property
    def standard_error(self) -> float:
        """The standard error of the mean over seeds and test sets; NaN for fewer than two seeds.

        The lower bound is one example's share of the test set. Where all predictions agree, neither seeds nor
        examples show a spread, but one example in so many may still differ.
        """
        if not self.has_spread:
            return math.nan
        return max(self.inflation * math.sqrt(self.spread**2 / self.n + self.test_set_variance), self.minimum_error)

    @cached_property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of the standard error (Satterthwaite, Biometrics Bulletin 2, 1946)."""
        if not self.has_spread:
            return math.nan
        seeds = self.spread**2 / self.n
        if not self.test_set_variance:
            return self.n - 1.0
        total = seeds + self.test_set_variance
        return total**2 / (seeds**2 / (self.n - 1) + self.test_set_variance**2 / (self.examples - 1))

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        """The two-sided t interval of the mean; NaN for fewer than two seeds."""
        half = float(stats.t.ppf(0.5 + level / 2, self.degrees_of_freedom)) * self.standard_error
        return self.mean - half, self.mean + half

    def p_value(self, direction: Direction, margin: float) -> float:
        """The p value of the t test that the mean lies ``above``, ``below`` or ``within`` a margin.

        The null hypothesis is the contrary, so a small p supports the direction. p is 1 for fewer than two seeds.

        ``above``, ``below``: a two-sided test that counts one side: p < 0.05 exactly where the 95 % interval lies on
            that side of the margin.
        ``within``: two one-sided tests (Schuirmann, 1987): p < 0.05 exactly where the 90 % interval lies between
            -margin and margin.
        """
        if direction == "within":
            return max(self._above(-margin), self._below(margin))
        return min(2 * (self._above(margin) if direction == "above" else self._below(margin)), 1.0)

    def _above(self, margin: float) -> float:
        return self._one_sided(self.mean - margin, self.standard_error)

    def _below(self, margin: float) -> float:
        return self._one_sided(margin - self.mean, self.standard_error)

    def _one_sided(self, distance: float, error: float) -> float:
        if not self.has_spread:
            return 1.0
        if error == 0:  # all seeds are equal, and there is no test set
            return 0.0 if distance > 0 else 1.0
        return float(stats.t.sf(distance / error, self.degrees_of_freedom))

    def sign_flip_p_value(self, margin: float = 0.0) -> float:
        """The p value of the two-sided sign-flip test that the values are symmetric about ``margin``.

        It is exact for up to 16 seeds, and uses the seeds only. Its smallest value is 2 / 2^n: 0.0625 for 5 seeds.
        """
        if not self.has_spread:
            return 1.0
        values = np.asarray(self.values) - margin
        test = stats.permutation_test(
            (values,), np.sum, permutation_type="samples", n_resamples=_SIGN_FLIPS, vectorized=True, rng=0
        )
        return float(test.pvalue)

    @cached_property
    def hedges_g(self) -> float:
        """Hedges' g of paired values: mean over spread, corrected for few seeds (J. Educ. Stat. 6, 1981).

        NaN without a spread, and for two seeds, whose correction is 0.
        """
        if self.n < 3 or self.spread <= _ROUNDING * abs(self.mean):
            return math.nan
        half = (self.n - 1) / 2
        correction = math.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / math.sqrt(half)
        return self.mean / self.spread * correction


@dataclass(frozen=True)
class IntervalEffect(Effect):
    """An effect given by an estimate and its 95 % interval, such as a median over rounds and its bootstrap interval.

    Each side of the interval is treated as that of a normal distribution, so p < 0.05 exactly where the interval
    excludes a margin. Without values there is no sign-flip test. ``rounds`` is the number of measurements.
    """

    values: tuple[float, ...] = ()
    centre: float = math.nan
    low: float = math.nan
    high: float = math.nan
    rounds: int = 0

    @property
    def n(self) -> int:
        return self.rounds

    @cached_property
    def mean(self) -> float:
        return self.centre

    @cached_property
    def spread(self) -> float:
        return math.nan

    @cached_property
    def standard_error(self) -> float:
        return (self.high - self.low) / 2 / _NORMAL

    @cached_property
    def degrees_of_freedom(self) -> float:
        return math.inf

    def _above(self, margin: float) -> float:
        return self._one_sided(self.mean - margin, (self.mean - self.low) / _NORMAL)

    def _below(self, margin: float) -> float:
        return self._one_sided(margin - self.mean, (self.high - self.mean) / _NORMAL)

    def sign_flip_p_value(self, margin: float = 0.0) -> float:
        return math.nan

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        return (self.low, self.high) if level == 1 - LEVEL else super().interval(level)


def accuracy_difference(first: np.ndarray, second: np.ndarray, scale: float = 1.0) -> Effect:
    """The difference of two methods' accuracies, with the sampling error of the test set.

    Seeds and examples are crossed: every seed is tested on the same examples. Let d_si be the difference of seed s at
    example i. The variance of its mean has three components: seeds / n, examples / m and residual / (n m). The
    spread of the seeds' means contains the first and the last. The second is estimated from the spread of the
    examples' means less the residual (two-way layout without replication), and clipped at 0.

    Both arrays state whether each prediction is correct, shape (n seeds, m examples); the row of a diverged run may
    hold the accuracy of chance. ``scale`` is 100 for percentage points. Raises `ValueError` for other shapes.
    """
    if np.ndim(first) != 2 or np.shape(first) != np.shape(second):
        raise ValueError(f"expected two arrays of shape (seeds, examples), got {np.shape(first)}, {np.shape(second)}")
    difference = scale * (np.asarray(first, float) - np.asarray(second, float))
    n, m = difference.shape
    seeds, examples = difference.mean(1), difference.mean(0)
    variance = 0.0
    if n > 1:
        residual = difference - seeds[:, None] - examples + difference.mean()
        variance = examples.var(ddof=1) / m - (residual**2).sum() / ((n - 1) * (m - 1)) / (n * m)
    return Effect(tuple(map(float, seeds)), max(float(variance), 0.0), m, scale / m)


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
