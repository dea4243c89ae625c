"""Parameter efficiency: the parameters the baseline needs for a method's accuracy over those of the method."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rdp import models
from rdp.study import Cell, Plan, comparisons
from rdp.utils import rng

_RESAMPLES = 1000


@dataclass(frozen=True)
class Efficiency:
    """A method's network compared with the baseline's networks of the same depth and other widths.

    Attributes:
        architecture, dataset, recipe, method: the network.
        parameters: its number of parameters.
        accuracy: its mean test accuracy over seeds, a share.
        ratio: parameters of the smallest baseline network of that mean accuracy, over ``parameters``. Between widths it
            is interpolated linearly in the logarithm of parameters. 0 if the smallest baseline network is more
            accurate, inf if none is as accurate.
        low, high: the 95 % percentile interval of the ratio over resampled seeds, those that all networks share.
        smallest, largest: the limits of the ratio that the baseline's widths cover.
    """

    dataset: str
    architecture: str
    recipe: str
    method: str
    parameters: float
    accuracy: float
    ratio: float
    low: float
    high: float
    smallest: float
    largest: float


def efficiencies(plan: Plan, records: pd.DataFrame) -> Iterator[Efficiency]:
    """The efficiency of every network whose depth and dataset have the baseline in several widths."""
    groups: dict[tuple[str, str, int, str], list[Cell]] = {}
    by_cell = comparisons.by_cell(plan)
    for cell in plan.cells:
        network = models.architecture(cell.architecture)
        key = (cell.dataset, network.family, network.depth, by_cell[cell.id].recipe)
        groups.setdefault(key, []).append(cell)
    measured = records[records["accuracy"].notna() & records["parameters"].notna()]
    for (dataset, _, _, recipe), cells in groups.items():
        runs = measured[measured["cell"].isin([cell.id for cell in cells])]
        name = comparisons.baseline_label(plan, cells)
        table = runs.pivot_table(index="seed", columns=["method", "architecture"], values="accuracy")
        sizes = runs.groupby(["method", "architecture"])["parameters"].first()
        if name is None or name not in sizes or len(sizes[name]) < 2:
            continue
        for method, architecture in table.columns:
            if method == name:
                continue
            own = (method, architecture)
            paired = table[[*((name, width) for width in sizes[name].index), own]].dropna()
            if len(paired) >= 2:
                yield Efficiency(dataset, architecture, recipe, method, **_compare(paired, sizes, name, own))


def _compare(table: pd.DataFrame, sizes: pd.Series, baseline: str, own: tuple[str, str]) -> dict[str, float]:
    widths = sizes[baseline].sort_values()
    curve = table[baseline][widths.index].to_numpy()  # (seeds, widths)
    mine, parameters = table[own].to_numpy(), float(sizes[own])

    def ratio(seeds: NDArray[np.int64]) -> float:
        return needed(curve[seeds].mean(0), widths.to_numpy(), mine[seeds].mean()) / parameters

    draws = rng.generator(0, "efficiency").integers(0, len(mine), (_RESAMPLES, len(mine)))
    low, high = np.quantile([ratio(draw) for draw in draws], [0.025, 0.975], method="inverted_cdf")
    return {
        "parameters": parameters,
        "accuracy": float(mine.mean()),
        "ratio": ratio(np.arange(len(mine))),
        "low": float(low),
        "high": float(high),
        "smallest": float(widths.min()) / parameters,
        "largest": float(widths.max()) / parameters,
    }


def needed(accuracies: NDArray[np.float64], parameters: NDArray[np.float64], accuracy: float) -> float:
    """The parameters of the smallest network with an accuracy, interpolated between networks in order of size.

    0 if the smallest network is more accurate, inf if no network is as accurate.
    """
    best = np.maximum.accumulate(accuracies)  # skips a larger network that is worse
    if accuracy < best[0]:
        return 0.0
    if accuracy > best[-1]:
        return float("inf")
    place = int(np.searchsorted(best, accuracy))
    if best[place] == accuracy:
        return float(parameters[place])
    share = (accuracy - best[place - 1]) / (best[place] - best[place - 1])
    ends = np.log(parameters[[place - 1, place]].astype(float))
    return float(np.exp(ends[0] + share * (ends[1] - ends[0])))
