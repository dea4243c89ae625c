"""The cells of a study that a claim compares."""

from rdp.claims.model import Claim, Part
from rdp.study import Cell, Plan
from rdp.study.comparisons import Setting

Pair = tuple[Cell, Cell | None]  # a cell and the one it is compared with
Pairs = dict[Part, Pair | None]  # by part; None where the study has no such cells


def pairs_by_setting(claim: Claim, plan: Plan, groups: dict[Setting, list[Cell]]) -> dict[Setting, Pairs]:
    """The pairs of cells that a claim compares, by setting and part.

    A study tests a claim in the settings with the cells of the claim's first part. ``groups`` are the study's cells by
    setting. A part shown beside the claim is included only where its cells exist.
    """
    settings = {}
    for setting, cells in groups.items():
        if not claim.applies_to(setting.architecture, setting.dataset):
            continue
        pairs = {part: _pair(part, plan, cells) for part in (*claim.parts, *claim.beside)}
        if pairs[claim.parts[0]]:
            settings[setting] = {part: pair for part, pair in pairs.items() if pair or part in claim.parts}
    return settings


def _pair(part: Part, plan: Plan, cells: list[Cell]) -> Pair | None:
    """The cells that a part compares; None where one of them is missing, or not measured by the part's probe."""
    if part.definition.probe in plan.study.probes:
        cells = [cell for cell in cells if part.definition.probe in cell.probes]
    first = _pick(plan, cells, part.method, None, part.budget)
    other = _pick(plan, cells, part.against, part.against_form, "steps") if part.against else None
    return None if first is None or (part.against and other is None) else (first, other)


def _pick(plan: Plan, cells: list[Cell], method: str, form: str | None, budget: str) -> Cell | None:
    """The first cell of a method, form and budget, in the study's order."""
    for cell in cells:
        spec = cell.specs[0]
        if (spec.method, plan.study.methods[cell.label].form, spec.recipe.budget) == (method, form, budget):
            return cell
    return None
