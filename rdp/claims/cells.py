"""Which cells of a study a claim speaks of."""

from rdp.claims.model import Claim, Part
from rdp.study import Cell, Plan
from rdp.study.comparisons import Setting

Pair = tuple[Cell, Cell | None]  # a cell and the one that it is compared with
Pairs = dict[Part, Pair | None]  # by part; None where the study has no such cells


def asked(claim: Claim, plan: Plan, groups: dict[Setting, list[Cell]]) -> dict[Setting, Pairs]:
    """The settings of a study that speak to a claim: those with the cells of its first part.

    Args:
        groups: the study's cells by setting, see `rdp.study.comparisons.cells`.

    Returns:
        By setting and part, the cell and the one that it is compared with. Of parts that stand beside, those alone
        that the study has.
    """
    found = {}
    for setting, here in groups.items():
        if not claim.speaks_of(setting.architecture, setting.dataset):
            continue
        pairs = {part: _pair(part, plan, here) for part in (*claim.parts, *claim.beside)}
        if pairs[claim.parts[0]]:
            found[setting] = {part: pair for part, pair in pairs.items() if pair or part in claim.parts}
    return found


def _pair(part: Part, plan: Plan, cells: list[Cell]) -> Pair | None:
    """The cells that a part speaks of; None where one of them is not there."""
    first = _pick(plan, cells, part.method, None, part.budget)
    other = _pick(plan, cells, part.against, part.against_form, "steps") if part.against else None
    return None if first is None or (part.against and other is None) else (first, other)


def _pick(plan: Plan, cells: list[Cell], method: str | None, form: str | None, budget: str) -> Cell | None:
    """The first cell of a method, form and budget, in the study's order."""
    for cell in cells:
        spec = cell.specs[0]
        if (spec.method, plan.study.methods[cell.label].form, spec.recipe.budget) == (method, form, budget):
            return cell
    return None
