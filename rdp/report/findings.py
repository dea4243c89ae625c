"""What a study asked and found, in a few sentences for the head of its page."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from rdp.claims.model import KINDS
from rdp.claims.verdicts import WORDS
from rdp.report import templating
from rdp.report.summary import CellSummary, has_norms
from rdp.study import Plan

# The methods whose result is stated, in this order. Others follow that are above the baseline anywhere, the best ones.
_METHODS = ("residual_droppath", "pnnh")
_MOST_OTHERS = 2


def findings(plan: Plan, cells: list[CellSummary], verdicts: dict[str, Any], baseline: str | None) -> list[str]:
    """Sentences on the scale of a study, its verdicts, and each method of the papers against the baseline."""
    template = templating.plain("findings.j2")
    text = template.render(
        runs=sum(cell.seeds for cell in cells),
        networks=list(dict.fromkeys(cell.setting.architecture for cell in cells)),
        parameters=max((cell.parameters for cell in cells if cell.parameters == cell.parameters), default=None),
        steps=max((cell.steps for cell in cells if cell.steps == cell.steps), default=None),
        seeds=len(plan.study.seed_list()),
        data=_data(cells, verdicts),
        verdicts=_by_word(verdicts),
        titles={claim["name"]: claim["title"] for claim in verdicts["claims"]},
        methods=list(_methods(plan, cells)),
        baseline=baseline,
    )
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def _data(cells: list[CellSummary], verdicts: dict[str, Any]) -> dict[str, list[str]]:
    """The datasets by kind."""
    names = dict.fromkeys(cell.setting.dataset for cell in cells)
    by_kind = {kind: [n for n in names if (n in verdicts["confirmatory"]) == (kind == KINDS[0])] for kind in KINDS}
    return {kind: datasets for kind, datasets in by_kind.items() if datasets}


def _by_word(verdicts: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    """The claims by kind of data and verdict, for the kinds of which any claim was tested."""
    found: dict[str, dict[str, list[str]]] = {}
    for kind, word in product(KINDS, WORDS):
        if names := [c["name"] for c in verdicts["claims"] if c["verdicts"][kind]["verdict"] == word]:
            found.setdefault(kind, {})[word] = names
    return {kind: by_word for kind, by_word in found.items() if by_word.keys() != {WORDS[-1]}}


def _methods(plan: Plan, cells: list[CellSummary]) -> Iterator[tuple[str, CellSummary, CellSummary, int]]:
    """Each method's label, its cells of the lowest and the highest difference, and its number of cells with one."""
    labels = [next((c.method for c in cells if c.name == name and c.budget == "steps"), None) for name in _METHODS]
    above = [cell for cell in cells if cell.difference and cell.difference.low > 0 and cell.method not in labels]
    best = dict.fromkeys(cell.method for cell in sorted(above, key=_mean, reverse=True))
    labels += list(best)[:_MOST_OTHERS]
    for label in labels:
        mine = [cell for cell in cells if cell.method == label and cell.difference is not None and cell.difference.n]
        mine = [cell for cell in mine if has_norms(cell.setting.architecture)] or mine
        if label is not None and mine:
            yield label, min(mine, key=_mean), max(mine, key=_mean), len(mine)


def _mean(cell: CellSummary) -> float:
    assert cell.difference is not None
    return cell.difference.mean
