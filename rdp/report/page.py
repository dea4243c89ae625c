"""The page: one HTML file with a study's verdicts, tables and figures, which needs no network."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from rdp import data, tables
from rdp.claims import verdict_json
from rdp.report import (
    claims_view,
    compute_cost,
    contents,
    csv_tables,
    efficiency,
    explorer,
    facts,
    formatting,
    summary,
    templating,
)
from rdp.study import Plan, comparisons
from rdp.utils import distribution, files
from rdp.utils.humanize import count


def write(plan: Plan, results: Path) -> Path:
    """Write ``report/index.html`` and ``tables/`` from a study's tables, verdicts and figures."""
    loaded = tables.load(plan, results)
    table, history = loaded.records, loaded.history
    claims = verdict_json.read(plan.name, results)
    folder = results / plan.name
    cells = summary.cells(plan, table)
    efficient = list(efficiency.efficiencies(plan, table))
    csv_tables.write(folder / "tables", cells, efficient, claims)
    path = folder / "report" / "index.html"
    recording = facts.recording(plan, table, results)
    text = render(plan, table, history, claims, cells, efficient, folder / "figures", recording)
    with files.atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def render(
    plan: Plan,
    table: pd.DataFrame,
    history: pd.DataFrame,
    claims: dict[str, Any],
    cells: list[summary.CellSummary],
    efficient: list[efficiency.Efficiency],
    drawn: Path,
    recording: list[str],
) -> str:
    """The page as text; ``recording`` describes the origin of recorded results."""
    environment = templating.html()
    environment.filters |= {"number": formatting.number, "rounded": formatting.rounded, "count": count}
    environment.filters |= {"percent": summary.percent, "points": summary.points, "times": formatting.times}
    environment.filters |= {"joules": compute_cost.joules, "hours": compute_cost.hours}
    figures = _figures(plan, drawn)
    titles = {figure["name"]: figure["title"] for figure in figures}
    style, script = (templating.text(name) for name in ("style.css", "explorer.js"))
    return environment.get_template("page.html.j2").render(
        plan=plan,
        style=style,
        script=script,
        policy=templating.policy(style, script),
        claims=claims,
        groups=claims_view.groups(claims, titles, frozenset(table["run"])),
        tally=claims_view.tally(claims),
        explorer=explorer.embedded(explorer.content(plan, table, history)),
        version=distribution.version(),
        counts=table["status"].value_counts().to_dict(),
        runs=len(table),
        baseline=comparisons.baseline(plan),
        sentences=list(summary.sentences(cells, comparisons.baseline(plan))),
        cells=cells,
        comparisons=summary.by_budget(cells),
        budgets=summary.BUDGETS,
        efficient=efficient,
        costs=compute_cost.rows(claims),
        energies=compute_cost.energies(claims),
        figures=figures,
        recording=recording,
        unfinished=facts.unfinished(plan, table),
        machines=facts.machines(table),
        adopted=facts.adopted(table),
        commits=sorted(table["commit"].dropna().unique()),
        recipes=_recipes(plan),
        datasets={name: data.info(name) for name in dict.fromkeys(cell.dataset for cell in plan.cells)},
        identities=_identities(plan, table),
        study_text=plan.file.read_text(encoding="utf-8"),
        choices=contents.choices(),
        rotated=_rotated(plan),
        halves=any(cell.specs[0].method == "residual_droppath" for cell in plan.cells),
    )


def _rotated(plan: Plan) -> list[str]:
    """The methods that are residual networks in rotated coordinates: PNNH sum with an orthogonal coder."""
    return [
        label
        for label, options in {cell.label: cell.specs[0].options for cell in plan.cells}.items()
        if options.get("variant") == "sum"
        and (options["constraint"] == "orthogonal" if options["trained"] else options["start"] != "he")
    ]


def _figures(plan: Plan, drawn: Path) -> list[dict[str, str]]:
    figures = []
    for name in contents.figures(plan):
        # Percent-encoding is a fifth smaller than base64.
        image = quote(contents.drawing(plan, name, drawn), safe=" /:;=,.'()-+*@!?[]{}|")
        figures.append(contents.caption(name) | {"name": name, "image": f"data:image/svg+xml,{image}"})
    return figures


def _recipes(plan: Plan) -> list[dict[str, Any]]:
    """The recipes with the cells that each trains."""
    rows: dict[str, dict[str, Any]] = {}
    for cell in plan.cells:
        recipe = cell.specs[0].recipe
        row = rows.setdefault(recipe.model_dump_json(), {"recipe": recipe.model_dump(), "cells": []})
        row["cells"].append(cell.title)
    return list(rows.values())


def _identities(plan: Plan, table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    by_cell = dict(list(table.groupby("cell")))
    for cell in plan.cells:
        runs = by_cell[cell.id]
        digests = {
            name: ", ".join(sorted({value[:12] for value in runs[f"{name}_digest"].dropna()}))
            for name in ("data", "code", "stack")
        }
        rows.append({"label": cell.title, "cell": cell.id, "options": cell.specs[0].options} | digests)
    return rows
