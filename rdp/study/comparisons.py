"""Settings: what is compared with each other. One dataset, one architecture and one recipe of the study.

A study may ask for one architecture on one dataset in several grids, each with a recipe of its own. Runs of two
recipes are never averaged or paired with each other, so figures and tables go by setting.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rdp.spec import Recipe
from rdp.study import VANILLA, Cell, Plan, is_baseline


@dataclass(frozen=True)
class Setting:
    """A dataset, an architecture, and what tells its recipe from that of other grids on the same two.

    Attributes:
        recipe: ``learning_rate 0.5``, or empty where the study has but one recipe for the two.
    """

    dataset: str
    architecture: str
    recipe: str = ""

    @property
    def title(self) -> str:
        """How the setting is called on the page and above its panel."""
        return f"{self.architecture} on {self.dataset}" + (f", {self.recipe}" if self.recipe else "")

    @property
    def key(self) -> dict[str, str]:
        """The setting as columns of a table."""
        return {"dataset": self.dataset, "architecture": self.architecture, "recipe": self.recipe}


def baseline(plan: Plan) -> str | None:
    """What a study compares others with, as it is called: what it names, or vanilla; None where it trains none."""
    return plan.study.baseline or (VANILLA if baseline_label(plan, plan.cells) else None)


def baseline_label(plan: Plan, cells: Iterable[Cell]) -> str | None:
    """The study's name for the baseline among the cells of a setting: the first, where there are several."""
    return next((cell.label for cell in cells if is_baseline(plan.study, cell)), None)


def by_cell(plan: Plan) -> dict[str, Setting]:
    """The setting of every cell of a study, by the cell's name, in the study's order."""
    shared = {cell.id: _grid_recipe(plan, cell) for cell in plan.cells}
    variants: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in plan.cells:
        found = variants.setdefault((cell.dataset, cell.architecture), [])
        if shared[cell.id] not in found:
            found.append(shared[cell.id])
    return {
        cell.id: Setting(
            cell.dataset,
            cell.architecture,
            _difference(shared[cell.id], variants[cell.dataset, cell.architecture]),
        )
        for cell in plan.cells
    }


def cells(plan: Plan) -> dict[Setting, list[Cell]]:
    """The cells of each setting of a study, in the study's order."""
    found, groups = by_cell(plan), {}
    for cell in plan.cells:
        groups.setdefault(found[cell.id], []).append(cell)
    return groups


def _grid_recipe(plan: Plan, cell: Cell) -> dict[str, Any]:
    """What a cell shares with the other methods of its grid: the recipe without its own method's changes, and the
    learning rates of the sweep, where there is one."""
    study, tuning = plan.study, cell.specs[0].tuning
    tuned = {"learning_rate": None} if tuning else {}  # whatever rate the file gives beside it
    for grid in study.grids:
        if cell.dataset not in grid.datasets or cell.architecture not in grid.architectures:
            continue
        shared = study.recipe | grid.recipe
        if Recipe(**(shared | study.methods[cell.label].recipe | tuned)) == cell.specs[0].recipe:
            return Recipe(**(shared | tuned)).model_dump() | {"sweep": tuning.learning_rates if tuning else None}
    raise ValueError(f"{cell.id}: of no grid of the study {plan.name}")


def _difference(recipe: dict[str, Any], variants: list[dict[str, Any]]) -> str:
    """The entries in which recipes for one dataset and architecture differ, as ``recipe`` has them."""
    names = [name for name in recipe if len({other[name] for other in variants}) > 1]
    # A sweep takes the place of the rate, and a rate that of a sweep.
    return ", ".join(f"{name} {_told(recipe[name])}" for name in names if recipe[name] is not None)


def _told(value: Any) -> str:
    return " ".join(f"{rate:g}" for rate in value) if isinstance(value, tuple) else str(value)
