"""The paper's results: accuracies by method, depth and dataset, and the figures of each subject."""

from collections.abc import Collection
from itertools import groupby
from typing import Any

from rdp import data, models
from rdp.claims import metrics
from rdp.report.formatting import number
from rdp.report.summary import CellSummary
from rdp.study.comparisons import Setting
from rdp.utils.humanize import PERCENT

_COLUMNS = 6  # of a table of accuracies
# The figures of the main text: of each row of names, the first that the study has.
_SUBJECTS: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "Accuracy": (
        "the accuracies and their differences to the baseline",
        (("accuracy_by_depth", "accuracy"), ("differences",), ("regimes",)),
    ),
    "Reuse of features": ("how far the features of a network repeat over its layers", (("redundancy",),)),
    "Plain networks and coders": (
        "what becomes of the input and of training without residual connections",
        (("convergence",), ("dissipation_untrained",), ("surviving_neurons",)),
    ),
    "Cost and parameters": ("what the methods cost", (("throughput", "cost"), ("frontier",))),
}


def has_depths(cells: list[CellSummary]) -> bool:
    """Whether any dataset, family and recipe has networks of several depths."""
    depths: dict[tuple[str, str, str], set[int]] = {}
    for setting in (cell.setting for cell in cells):
        depths.setdefault(_group(setting), set()).add(models.architecture(setting.architecture).depth)
    return any(len(found) > 1 for found in depths.values())


def subjects(figures: Collection[str], claims: list[dict[str, Any]], depths: bool) -> list[dict[str, Any]]:
    """The subjects of the results, each with its figures and the tested claims whose metrics they show.

    Without several ``depths``, accuracies are shown by method.
    """
    rows = []
    for title, (what, choices) in _SUBJECTS.items():
        options = [[name for name in names if depths or name != "accuracy_by_depth"] for names in choices]
        chosen = [next((name for name in names if name in figures), None) for names in options]
        shown = [name for name in chosen if name]
        names = [claim["name"] for claim in claims if claim["tested"] and _figures_of(claim) & {*shown}]
        rows.append({"title": title, "what": what, "figures": shown, "claims": names})
    return rows


def _figures_of(claim: dict[str, Any]) -> set[str]:
    """The figures that show the deciding metrics of a claim."""
    compared = [row for verdict in claim["verdicts"].values() for row in verdict["comparisons"] if not row["condition"]]
    return {name for row in compared for name in metrics.available()[row["metric"]].figures}


def bands(cells: list[CellSummary]) -> list[dict[str, Any]]:
    """Tables of accuracies with a row for each method and a column for each setting.

    A table has a few columns: whole groups of a dataset, a family and a recipe, where they fit. Each has ``groups``
    (title and number of columns), ``columns`` (the depth, or the architecture if several have one depth), ``named``
    (whether architectures are named), ``rows`` (method and cells) and ``chance``.
    """
    settings = dict.fromkeys(cell.setting for cell in cells)
    grouped: dict[tuple[str, str, str], list[Setting]] = {}
    for setting in settings:
        grouped.setdefault(_group(setting), []).append(setting)
    tables: list[list[Setting]] = [[]]
    for members in grouped.values():
        members.sort(key=_depth)  # stable: then by the study
        size = -(-len(members) // -(-len(members) // _COLUMNS))  # of equal parts
        for part in (members[start : start + size] for start in range(0, len(members), size)):
            if len(tables[-1]) + len(part) > _COLUMNS:
                tables.append([])
            tables[-1] += part
    return [_band(table, grouped, cells) for table in tables if table]


def _band(
    settings: list[Setting], grouped: dict[tuple[str, str, str], list[Setting]], cells: list[CellSummary]
) -> dict[str, Any]:
    named = any(len({_depth(s) for s in grouped[_group(at)]}) < len(grouped[_group(at)]) for at in settings)
    mine = {(cell.method, cell.setting): cell for cell in cells if cell.setting in settings}
    methods = dict.fromkeys(method for method, _ in mine)
    chance = {at: PERCENT * data.info(at.dataset).chance for at in settings}
    above = [(at, cell.accuracy.mean) for (_, at), cell in mine.items() if cell.accuracy.n]
    above = [(at, mean) for at, mean in above if mean > chance[at]]
    best = {at: max((mean for of, mean in above if of == at), default=None) for at in settings}
    several = {at for at in settings if sum(of == at for _, of in mine) > 1}
    return {
        "groups": [(_title(key), len(list(members))) for key, members in groupby(settings, key=_group)],
        "columns": [at.architecture if named else str(_depth(at)) for at in settings],
        "named": named,
        "rows": [
            (method, [_entry(mine.get((method, at)), best[at] if at in several else None) for at in settings])
            for method in methods
        ],
        "chance": [number(chance[at], "{:.1f}") for at in settings],
    }


def _entry(cell: CellSummary | None, best: float | None) -> dict[str, Any] | None:
    """A cell of the table; None if the study lacks it."""
    if cell is None:
        return None
    accuracy = cell.accuracy
    half = number((accuracy.high - accuracy.low) / 2, "{:.1f}") if accuracy.has_interval else ""
    return {
        "mean": number(accuracy.mean if accuracy.n else None, "{:.1f}"),
        "half": half,
        "best": bool(accuracy.n) and accuracy.mean == best,
        "sign": sign(cell),
        "diverged": bool(cell.counts.get("diverged", 0)),
    }


def sign(cell: CellSummary) -> str:
    """Whether a cell is above (``+``) or below (``\u2212``) the baseline by the interval of their difference."""
    if cell.difference is None or not cell.difference.has_interval or not cell.difference.excludes(0):
        return ""
    return "+" if cell.difference.mean > 0 else "\u2212"


def _group(setting: Setting) -> tuple[str, str, str]:
    return setting.dataset, models.architecture(setting.architecture).family, setting.recipe


def _title(group: tuple[str, str, str]) -> str:
    dataset, family, recipe = group
    return f"{family} on {dataset}" + (f", {recipe}" if recipe else "")


def _depth(setting: Setting) -> int:
    return models.architecture(setting.architecture).depth
