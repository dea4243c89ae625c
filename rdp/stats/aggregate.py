"""Aggregates over cells: interquartile mean and probability of improvement (arXiv 2108.13264), with intervals."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from rdp.stats.intervals import Estimate
from rdp.utils import rng

_RESAMPLES = 2000


def interquartile_mean(cells: Sequence[Sequence[float]], level: float = 0.95) -> Estimate:
    """The mean of the middle half of all runs, with a percentile bootstrap interval over seeds.

    ``cells`` has one value per seed, for each cell.
    """
    return _bootstrap(cells, lambda resamples: stats.trim_mean(np.concatenate(resamples, 1), 0.25, axis=1), level)


def probability_of_improvement(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], level: float = 0.95
) -> Estimate:
    """The probability that a run of the first method beats a run of the second, averaged over cells.

    It is Mann and Whitney's U over the number of pairs; ties count half, and 0.5 means no difference. The bootstrap
    resamples the seeds of both methods. Both give one value per seed, for each cell, in the same order of cells.
    """
    if len(first) != len(second):
        raise ValueError(f"both methods need the same cells; got {len(first)} and {len(second)}")

    def probability(resamples: list[np.ndarray]) -> np.ndarray:
        pairs = zip(resamples[: len(first)], resamples[len(first) :], strict=True)
        by_cell = [(np.sign(a[:, :, None] - b[:, None]).mean((1, 2)) + 1) / 2 for a, b in pairs]
        return np.asarray(np.mean(by_cell, axis=0))

    return _bootstrap([*first, *second], probability, level)


def _bootstrap(
    cells: Sequence[Sequence[float]], statistic: Callable[[list[np.ndarray]], np.ndarray], level: float
) -> Estimate:
    """A statistic with its percentile interval; seeds are resampled in each cell independently.

    The statistic maps one (resamples, seeds) matrix per cell to shape (resamples,).
    """
    if not cells or min(map(len, cells)) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    generator, values = rng.generator(0, "statistics/bootstrap"), [np.asarray(cell, float) for cell in cells]
    resamples = [cell[generator.integers(0, len(cell), (_RESAMPLES, len(cell)))] for cell in values]
    low, high = np.quantile(statistic(resamples), [(1 - level) / 2, (1 + level) / 2])
    mean = statistic([cell[None] for cell in values])[0]
    return Estimate(float(mean), float(low), float(high), sum(map(len, values)))
