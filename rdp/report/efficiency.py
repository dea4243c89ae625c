"""Parameter efficiency: how many times the parameters the baseline needs for a method's accuracy."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rdp import models
from rdp.study import Cell, Plan, comparisons
from rdp.utils import rng

_RESAMPLES = 1000


@dataclass(frozen=True)
class Efficiency:
    """One network of a method beside the baseline's networks of the same depth and other widths.

    Attributes:
        architecture, dataset, recipe, method: which network.
        parameters: of it.
        accuracy: mean test accuracy over seeds, a share.
        ratio: parameters of the smallest baseline network of that mean accuracy, over ``parameters``. Between widths it
            is interpolated, linearly in the logarithm of parameters; 0 where the smallest baseline network is better
            still, inf where none is as good.
        low, high: its 95 % percentile interval over resampled seeds, of those that this network and the baseline's
            networks all have.
        smallest, largest: what the ratio could be told between, for this network.
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
    """Every network whose depth and dataset have the baseline in more than one width."""
    groups: dict[tuple[str, str, int, str], list[Cell]] = {}
    by_cell = comparisons.by_cell(plan)
    for cell in plan.cells:
        found = models.architecture(cell.architecture)
        key = (cell.dataset, found.family, found.depth, by_cell[cell.id].recipe)
        groups.setdefault(key, []).append(cell)
    there = records[records["accuracy"].notna() & records["parameters"].notna()]
    for (dataset, _, _, recipe), cells in groups.items():
        runs = there[there["cell"].isin([cell.id for cell in cells])]
        name = comparisons.baseline_label(plan, cells)
        table = runs.pivot_table(index="seed", columns=["method", "architecture"], values="accuracy")
        sizes = runs.groupby(["method", "architecture"])["parameters"].first()
        if name not in sizes or len(sizes[name]) < 2:
            continue
        for method, architecture in table.columns:
            if method == name:
                continue
            own = (method, architecture)
            paired = table[[*((name, width) for width in sizes[name].index), own]].dropna()
            if len(paired) >= 2:
                key = {"dataset": dataset, "architecture": architecture, "recipe": recipe, "method": method}
                yield Efficiency(**key, **_beside(paired, sizes, name, own))


def _beside(table: pd.DataFrame, sizes: pd.Series, baseline: str, own: tuple[str, str]) -> dict[str, float]:
    widths = sizes[baseline].sort_values()
    curve = table[baseline][widths.index].to_numpy()  # (seeds, widths)
    mine, parameters = table[own].to_numpy(), float(sizes[own])

    def ratio(seeds: np.ndarray) -> float:
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


def needed(accuracies: np.ndarray, parameters: np.ndarray, accuracy: float) -> float:
    """The parameters of the smallest network of some accuracy, from those of some networks in order of their size.

    0 where the smallest is better still, inf where none reaches it.
    """
    best = np.maximum.accumulate(accuracies)  # a larger network that is worse is not taken
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
