"""An effect: the mean of one number a seed, how well it is known, and what may be said of it."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from scipy import special, stats

LEVEL = 0.05  # of every decision
_NORMAL = float(stats.norm.ppf(1 - LEVEL / 2))
_EXACT = 16  # seeds up to which all sign flips are counted; beyond, so many as they would make are drawn

_DUST = 1e-9  # of a mean: a spread that rounding explains

Direction = Literal["above", "below", "within"]


@dataclass(frozen=True)
class Effect:
    """One number a seed, such as the difference of two methods' accuracies, and the standard error of its mean.

    Attributes:
        values: shape (n,), a number a seed. Seeds are taken as independent draws.
        sampling: variance of the mean that seeds do not show, since they share it: that of the test set, see
            `of_predictions`. 0 where there is none.
        examples: of the test set; 0 where there is none.
        least: what the error is at least: the weight of one of these examples.
        shared: by how much the error exceeds that of independent seeds, where they share something.
    """

    values: tuple[float, ...]
    sampling: float = 0.0
    examples: int = 0
    least: float = 0.0
    shared: float = 1.0

    def __post_init__(self) -> None:
        if any(not math.isfinite(value) for value in self.values):
            raise ValueError("a value is missing or infinite; leave such seeds out, and say so")

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)

    @property
    def known(self) -> bool:
        """Whether there are seeds enough for a spread."""
        return self.n > 1

    @cached_property
    def mean(self) -> float:
        """NaN without seeds."""
        return float(np.mean(self.values)) if self.values else math.nan

    @cached_property
    def spread(self) -> float:
        """Standard deviation over seeds; NaN for fewer than two."""
        return float(np.std(self.values, ddof=1)) if self.known else math.nan

    @cached_property
    def error(self) -> float:
        """Standard error of the mean, over seeds and test sets.

        Not below one example's share of the test set: where no prediction differs at all, seeds and examples show no
        spread, and yet one in so many may.
        """
        if not self.known:
            return math.nan
        return max(self.shared * math.sqrt(self.spread**2 / self.n + self.sampling), self.least)

    @cached_property
    def freedom(self) -> float:
        """Degrees of freedom of the error: Satterthwaite's (Biometrics Bulletin 2, 1946), of seeds and examples."""
        if not self.known:
            return math.nan
        seeds = self.spread**2 / self.n
        if not self.sampling:
            return self.n - 1.0
        total = seeds + self.sampling
        return total**2 / (seeds**2 / (self.n - 1) + self.sampling**2 / (self.examples - 1))

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        """Two-sided t interval of the mean; NaN for fewer than two seeds."""
        half = float(stats.t.ppf(0.5 + level / 2, self.freedom)) * self.error
        return self.mean - half, self.mean + half

    def p(self, direction: Direction, margin: float) -> float:
        """p of the t test that the mean lies ``above`` or ``below`` a margin, or ``within`` it on both sides of 0.

        The hypothesis that is tested is the contrary, so a small p speaks for the direction, and nothing speaks for
        it where little is known: p is 1 for fewer than two seeds. ``above`` and ``below`` are two-sided tests of which
        the other side never counts: p < 0.05 exactly where the 95 % interval lies on that side. ``within`` is two
        one-sided tests (Schuirmann, 1987): p < 0.05 exactly where the 90 % interval lies within the margin.
        """
        if direction == "within":
            return max(self._above(-margin), self._below(margin))
        return min(2 * (self._above(margin) if direction == "above" else self._below(margin)), 1.0)

    def _above(self, margin: float) -> float:
        return self._one_sided(self.mean - margin, self.error)

    def _below(self, margin: float) -> float:
        return self._one_sided(margin - self.mean, self.error)

    def _one_sided(self, distance: float, error: float) -> float:
        if not self.known:
            return 1.0
        if error == 0:  # all seeds alike, of a quantity without a test set
            return 0.0 if distance > 0 else 1.0
        return float(stats.t.sf(distance / error, self.freedom))

    def sign_flip(self, margin: float = 0.0) -> float:
        """p of the exact two-sided sign-flip test that the values lie about ``margin``: by seeds alone.

        If values were symmetric about it, each sign were as likely as the other. p is the share of all 2^n choices of
        signs with a mean as far from it; it cannot be below 2 / 2^n, so 5 seeds can never give less than 0.0625.
        """
        shifted = np.asarray(self.values) - margin
        if not self.n:
            return 1.0
        means = np.abs(_signs(self.n) @ shifted)
        return float((means >= np.abs(shifted.sum()) * (1 - 1e-12)).mean())

    @cached_property
    def size(self) -> float:
        """Hedges' g of paired values: mean over spread, without the bias of few seeds (J. Educ. Stat. 6, 1981).

        NaN where there is no spread but rounding's, and for two seeds, whose correction is 0.
        """
        if self.n < 3 or self.spread <= _DUST * abs(self.mean):
            return math.nan
        half = (self.n - 1) / 2
        correction = math.exp(special.gammaln(half) - special.gammaln(half - 0.5)) / math.sqrt(half)
        return self.mean / self.spread * correction


@lru_cache(maxsize=4)
def _signs(n: int) -> np.ndarray:
    """All choices of n signs, or of more than `_EXACT` so many drawn ones; shape (choices, n), entries 1 and -1."""
    if n <= _EXACT:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        bits = np.random.Generator(np.random.PCG64(0)).integers(0, 2, (2**_EXACT, n))
        bits[0] = 1  # as it was
    return 2.0 * bits - 1


@dataclass(frozen=True)
class Measured(Effect):
    """An effect known by a number and its 95 % interval, such as a median over rounds with that of a bootstrap.

    Either side of the interval is taken for that of a normal distribution, so that p < 0.05 exactly where the interval
    leaves a margin out. There are no values, so no test goes by their signs.

    Attributes:
        centre, low, high: the number and its interval.
        rounds: that it was measured in.
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
    def error(self) -> float:
        return (self.high - self.low) / 2 / _NORMAL

    @cached_property
    def freedom(self) -> float:
        return math.inf

    def _above(self, margin: float) -> float:
        return self._one_sided(self.mean - margin, (self.mean - self.low) / _NORMAL)

    def _below(self, margin: float) -> float:
        return self._one_sided(margin - self.mean, (self.high - self.mean) / _NORMAL)

    def sign_flip(self, margin: float = 0.0) -> float:
        return math.nan

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        return (self.low, self.high) if level == 1 - LEVEL else super().interval(level)


def of_predictions(first: np.ndarray, second: np.ndarray, scale: float = 1.0) -> Effect:
    """The difference of two methods' accuracies, with the test set's own sampling error.

    Seeds and examples are crossed: every seed is tested on the same examples. d_si being the difference of seed s at
    example i, the variance of its mean over both is that of seeds / n, of examples / m and of what is left / (n m).
    The spread of seeds' means holds the first and the last. The second is what the spread of examples' means holds
    beside the last (both means of a two-way layout without replication), and 0 where that comes out below 0.

    Args:
        first, second: whether each seed's prediction of each example is right, shape (n, m), bool. A diverged run's
            row may hold the share that chance gives.
        scale: of the effect: 100 for points.
    """
    if np.ndim(first) != 2 or np.shape(first) != np.shape(second):
        raise ValueError(f"shapes (seeds, examples) that agree are needed; got {np.shape(first)}, {np.shape(second)}")
    difference = scale * (np.asarray(first, float) - np.asarray(second, float))
    n, m = difference.shape
    seeds, examples = difference.mean(1), difference.mean(0)
    sampling = 0.0
    if n > 1:
        left = difference - seeds[:, None] - examples + difference.mean()
        sampling = examples.var(ddof=1) / m - (left**2).sum() / ((n - 1) * (m - 1)) / (n * m)
    return Effect(tuple(map(float, seeds)), max(float(sampling), 0.0), m, scale / m)
