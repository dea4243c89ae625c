"""Over several cells: interquartile mean and probability of improvement (arXiv 2108.13264), with intervals."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from rdp.stats.intervals import Estimate
from rdp.utils import rng

_RESAMPLES = 2000


def interquartile_mean(cells: Sequence[Sequence[float]], level: float = 0.95) -> Estimate:
    """The mean of the middle half of all cells' runs, with the percentile interval of a bootstrap over seeds."""
    return _bootstrap(cells, lambda drawn: stats.trim_mean(np.concatenate(drawn, 1), 0.25, axis=1), level)


def probability_of_improvement(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], level: float = 0.95
) -> Estimate:
    """How likely a run of the first beats one of the second in the same cell, ties counting half; mean over cells.

    Mann and Whitney's U over the number of pairs. 1/2 where neither is better. Seeds of either are resampled.
    """
    if len(first) != len(second):
        raise ValueError(f"cells come in pairs; got {len(first)} and {len(second)}")

    def share(drawn: list[np.ndarray]) -> np.ndarray:
        pairs = zip(drawn[: len(first)], drawn[len(first) :], strict=True)
        shares = [(np.sign(a[:, :, None] - b[:, None]).mean((1, 2)) + 1) / 2 for a, b in pairs]
        return np.asarray(np.mean(shares, axis=0))

    return _bootstrap([*first, *second], share, level)


def _bootstrap(
    cells: Sequence[Sequence[float]], quantity: Callable[[list[np.ndarray]], np.ndarray], level: float
) -> Estimate:
    """``quantity`` of the cells, each a matrix (resamples, seeds), with its percentile interval over resamples.

    Seeds are drawn anew in each cell by itself.
    """
    if not cells or min(map(len, cells)) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    draw, found = rng.generator(0, "statistics/bootstrap"), [np.asarray(cell, float) for cell in cells]
    drawn = [cell[draw.integers(0, len(cell), (_RESAMPLES, len(cell)))] for cell in found]
    low, high = np.quantile(quantity(drawn), [(1 - level) / 2, (1 + level) / 2])
    mean = quantity([cell[None] for cell in found])[0]
    return Estimate(float(mean), float(low), float(high), sum(map(len, found)))
