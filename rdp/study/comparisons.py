"""Settings: groups of cells that are compared with each other, of one dataset, one architecture and one recipe.

Several grids of a study may have the same architecture and dataset with different recipes. Runs with different recipes
are never averaged or paired, so figures and tables are split by setting.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from rdp.spec import Recipe
from rdp.study import VANILLA, Cell, Plan, is_baseline

Key = TypeVar("Key")


@dataclass(frozen=True)
class Setting:
    """A dataset, an architecture and a recipe."""

    dataset: str
    architecture: str
    recipe: str = ""  # entries that differ from other grids with this architecture and dataset: ``learning_rate 0.5``

    @property
    def title(self) -> str:
        """The setting's name on the page and above its panel."""
        return f"{self.architecture} on {self.dataset}" + (f", {self.recipe}" if self.recipe else "")

    @property
    def key(self) -> dict[str, str]:
        """The setting's columns in a table."""
        return {"dataset": self.dataset, "architecture": self.architecture, "recipe": self.recipe}


def baseline(plan: Plan) -> str | None:
    """Name of the method that a study compares others with; None if no cell trains it."""
    return plan.study.baseline or (VANILLA if baseline_label(plan, plan.cells) else None)


def baseline_label(plan: Plan, cells: Iterable[Cell]) -> str | None:
    """The study's name for the baseline among the cells of a setting; the first of several."""
    return next((cell.label for cell in cells if is_baseline(plan.study, cell)), None)


def by_cell(plan: Plan) -> dict[str, Setting]:
    """The setting of each cell of a study, by the cell's name in the store, in the study's order."""
    return _named({cell.id: (cell.dataset, cell.architecture, _grid_recipe(plan, cell)) for cell in plan.cells})


def cells(plan: Plan) -> dict[Setting, list[Cell]]:
    """The cells of each setting of a study, in the study's order."""
    settings = by_cell(plan)
    groups: dict[Setting, list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault(settings[cell.id], []).append(cell)
    return groups


_OF_LENGTH = ("epochs", "validate_every")


def by_length(plan: Plan) -> dict[Setting, dict[int, Setting]]:
    """Settings that differ only in the number of epochs: each group by what its settings share.

    The keys of a group are the numbers of epochs, ascending.
    """
    recipes = {setting: _grid_recipe(plan, members[0]) for setting, members in cells(plan).items()}
    rest = {
        setting: {name: value for name, value in recipe.items() if name not in _OF_LENGTH}
        for setting, recipe in recipes.items()
    }
    named = _named({setting: (setting.dataset, setting.architecture, rest[setting]) for setting in recipes})
    groups: dict[Setting, dict[int, Setting]] = {}
    for setting, group in named.items():
        groups.setdefault(group, {})[recipes[setting]["epochs"]] = setting
    return {group: dict(sorted(lengths.items())) for group, lengths in groups.items()}


def _named(networks: dict[Key, tuple[str, str, dict[str, Any]]]) -> dict[Key, Setting]:
    """The setting of each dataset, architecture and recipe, with the entries in which such recipes differ."""
    variants: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for dataset, architecture, recipe in networks.values():
        recipes = variants.setdefault((dataset, architecture), [])
        if recipe not in recipes:
            recipes.append(recipe)
    return {
        key: Setting(dataset, architecture, _difference(recipe, variants[dataset, architecture]))
        for key, (dataset, architecture, recipe) in networks.items()
    }


def _grid_recipe(plan: Plan, cell: Cell) -> dict[str, Any]:
    """The recipe of a cell's grid, without the changes of its method and with the learning rates of its sweep."""
    study, tuning = plan.study, cell.specs[0].tuning
    tuned = tuning.swept if tuning else {}  # a sweep overrides the rate and the gain in the file
    for grid in study.grids:
        if cell.dataset not in grid.datasets or cell.architecture not in grid.architectures:
            continue
        shared = study.recipe | grid.recipe
        if Recipe(**(shared | study.methods[cell.label].recipe | tuned)) == cell.specs[0].recipe:
            return Recipe(**(shared | tuned)).model_dump() | {"sweep": tuning.learning_rates if tuning else None}
    raise ValueError(f"{cell.id}: in no grid of the study {plan.name}")


def _difference(recipe: dict[str, Any], variants: list[dict[str, Any]]) -> str:
    """The entries of ``recipe`` in which the recipes for one dataset and architecture differ."""
    names = [name for name in recipe if len({other[name] for other in variants}) > 1]
    others = [name for name in names if name != "validate_every"]  # it follows from the number of epochs, mostly
    if len({tuple(other[name] for name in others) for other in variants}) == len(variants):
        names = others
    # A recipe has a learning rate or a sweep, and the other is None; so has the norm gain, if the sweep chooses it.
    return ", ".join(f"{name} {_shown(recipe[name])}" for name in names if recipe[name] is not None)


def _shown(value: Any) -> str:
    return " ".join(f"{rate:g}" for rate in value) if isinstance(value, tuple) else str(value)
