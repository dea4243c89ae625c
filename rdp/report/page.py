"""The page: one HTML file with a study's verdicts, tables and figures, which needs no network."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from rdp.report import claims_view, contents, explorer, facts, table_files, templating
from rdp.study import Plan
from rdp.utils import files


def write(plan: Plan, results: Path) -> Path:
    """Write ``report/index.html`` and ``tables/`` from a study's tables, verdicts and figures."""
    shared, folder = facts.gather(plan, results), results / plan.name
    table_files.write(folder / "tables", shared)
    path = folder / "report" / "index.html"
    text = _render(shared, folder / "figures")
    with files.atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _render(shared: dict[str, Any], drawn: Path) -> str:
    plan, claims, table = shared["plan"], shared["verdicts"], shared["tables"].records
    figures = _figures(plan, drawn)
    titles = {figure["name"]: figure["title"] for figure in figures}
    style, script = templating.text("style.css"), templating.text("curves.js") + templating.text("explorer.js")
    return templating.html("page.html.j2").render(
        **shared,
        style=style,
        script=script,
        policy=templating.policy(style, script),
        claims=claims,
        groups=claims_view.groups(claims, titles, frozenset(table["run"])),
        explorer=explorer.embedded(explorer.content(plan, table, shared["tables"].history)),
        head=next((figure for figure in figures if figure["name"] == contents.head(titles)), None),
        questions=contents.by_question(figures),
        recipes=_recipes(plan),
        identities=_identities(plan, table),
        study_text=plan.file.read_text(encoding="utf-8"),
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
    rows: dict[str, dict[str, Any]] = {}
    for cell in plan.cells:
        recipe = cell.specs[0].recipe
        row = rows.setdefault(recipe.model_dump_json(), {"recipe": recipe.model_dump(), "cells": []})
        row["cells"].append(cell.title)
    return list(rows.values())


def _identities(plan: Plan, table: pd.DataFrame) -> list[dict[str, Any]]:
    digests = table.groupby("cell")[["data_digest", "code_digest", "stack_digest"]].agg(
        lambda values: ", ".join(sorted({value[:12] for value in values.dropna()}))
    )
    return [
        {"label": cell.title, "cell": cell.id, "options": cell.specs[0].options} | digests.loc[cell.id].to_dict()
        for cell in plan.cells
    ]
