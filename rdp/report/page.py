"""The page: one HTML file that opens offline, made from the tables and figures of a study."""

import base64
import json
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from rdp import data, files, places, records, settings
from rdp.errors import UserError
from rdp.report import contents, efficiency, summary
from rdp.study import Plan

_COMPARED = ["dataset", "architecture", "recipe", "method", "budget", "flops", "updates"]
_EFFICIENT = [field.name for field in fields(efficiency.Efficiency)]
_COMPARED += [f"difference_{name}" for name in ("mean", "low", "high", "n")]


def write(plan: Plan, results: Path) -> Path:
    """Write ``report/index.html`` and ``tables/*.csv`` of a study from what was collected and drawn."""
    table, _, _ = records.read(plan.name, results)
    folder = results / plan.name
    cells = summary.cells(plan, table)
    efficient = list(efficiency.efficiencies(plan, table))
    # A study of one budget or of one width compares nothing there, and leaves a table of columns alone.
    tables = {
        "accuracy": pd.DataFrame(_accuracy_rows(cells)),
        "cost": pd.DataFrame(_cost_rows(cells)),
        "comparisons": pd.DataFrame(_comparison_rows(cells), columns=_COMPARED),
        "efficiency": pd.DataFrame(map(vars, efficient), columns=_EFFICIENT),
    }
    for name, rows in tables.items():
        with files.whole(folder / "tables" / f"{name}.csv") as part:
            rows.to_csv(part, index=False)
    path = folder / "report" / "index.html"
    with files.whole(path) as part:
        part.write_text(render(plan, table, cells, efficient, folder / "figures"), encoding="utf-8")
    return path


def render(
    plan: Plan,
    table: pd.DataFrame,
    cells: list[summary.CellSummary],
    efficient: list[efficiency.Efficiency],
    drawn: Path,
) -> str:
    """The page as text. A name that the template uses and nothing fills stops it, by name."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(places.templates()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": summary.percent, "points": summary.points, "times": _times}
    unfinished = table[table["status"].isin(["failed", "missing", "diverged"])]
    return environment.get_template("page.html.j2").render(
        plan=plan,
        style=(places.templates() / "style.css").read_text(encoding="utf-8"),
        version=version("rdp"),
        counts=table["status"].value_counts().to_dict(),
        runs=len(table),
        baseline=settings.baseline(plan),
        sentences=list(summary.sentences(cells, settings.baseline(plan))),
        cells=cells,
        comparisons=summary.comparisons(cells),
        efficient=efficient,
        figures=_figures(plan, drawn),
        unfinished=unfinished[["run", "method", "status", "reason"]].to_dict("records"),
        machines=_machines(table),
        commits=sorted(table["commit"].dropna().unique()),
        recipes=_recipes(plan),
        datasets={name: data.info(name) for name in dict.fromkeys(cell.dataset for cell in plan.cells)},
        identities=_identities(plan, table),
        study_text=plan.file.read_text(encoding="utf-8"),
        choices=_yaml("choices.yaml"),
        rotated=_rotated(plan),
        halves=any(cell.specs[0].method == "residual_droppath" for cell in plan.cells),
    )


def _rotated(plan: Plan) -> list[str]:
    """The methods that are residual networks in rotated coordinates: PNNH's sum with an orthogonal coder."""
    found = {cell.label: cell.specs[0].options for cell in plan.cells}
    return [
        label
        for label, options in found.items()
        if options.get("variant") == "sum"
        and (options["constraint"] == "orthogonal" if options["trained"] else options["start"] != "he")
    ]


def _times(found: efficiency.Efficiency) -> str:
    """``1.4 [1.1, 1.9]``; an end beyond what the baseline's widths can tell is named by that limit."""

    def told(value: float) -> str:
        if value == 0:
            return f"below {found.smallest:.2g}"
        return f"above {found.largest:.2g}" if value == float("inf") else f"{value:.2g}"

    return f"{told(found.ratio)} [{told(found.low)}, {told(found.high)}]"


def _figures(plan: Plan, drawn: Path) -> list[dict[str, str]]:
    captions = _yaml("captions.yaml")
    found = []
    for name in contents.figures(plan):
        path = drawn / f"{name}.svg"
        if not path.is_file():
            raise UserError(f"{path}: no such file; run: rdp plot {plan.name} {name}")
        is_map = name.startswith(f"{contents.MAPS}_")  # one a method, and one caption for them
        caption = captions.get(contents.MAPS if is_map else name)
        if caption is None:
            raise UserError(f"{places.templates() / 'captions.yaml'}: no caption for the figure '{name}'")
        title = caption["title"] + (f", {name.removeprefix(f'{contents.MAPS}_')}" if is_map else "")
        image = base64.b64encode(path.read_bytes()).decode()
        found.append(caption | {"name": name, "title": title, "image": f"data:image/svg+xml;base64,{image}"})
    return found


def _yaml(name: str) -> Any:
    return yaml.safe_load((places.templates() / name).read_text(encoding="utf-8"))


def _machines(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The stacks that trained runs, with how many each."""
    counts = table["stack"][table["spec_digest"].notna()].value_counts()
    return [{"runs": count} | json.loads(stack) for stack, count in counts.items()]


def _recipes(plan: Plan) -> list[dict[str, Any]]:
    """What each cell is trained with, cells of one recipe together."""
    found: dict[str, dict[str, Any]] = {}
    for cell in plan.cells:
        recipe = cell.specs[0].recipe
        row = found.setdefault(recipe.model_dump_json(), {"recipe": recipe.model_dump(), "cells": []})
        row["cells"].append(cell.title)
    return list(found.values())


def _identities(plan: Plan, table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for cell in plan.cells:
        runs = table[table["cell"] == cell.id]
        digests = {
            name: ", ".join(sorted({value[:12] for value in runs[f"{name}_digest"].dropna()}))
            for name in ("data", "code", "stack")
        }
        rows.append({"label": cell.title, "cell": cell.id, "options": cell.specs[0].options} | digests)
    return rows


def _accuracy_rows(cells: list[summary.CellSummary]) -> list[dict[str, Any]]:
    rows = []
    for cell in cells:
        row = cell.setting.key | {"method": cell.method}
        row |= {"mean": cell.accuracy.mean, "low": cell.accuracy.low, "high": cell.accuracy.high}
        row |= {"runs_in_mean": cell.accuracy.n, "seeds": cell.seeds}
        row["learning_rate"] = " ".join(f"{rate:g}" for rate in cell.learning_rates)
        row |= {status: cell.counts.get(status, 0) for status in ("completed", "diverged", "failed", "missing")}
        if cell.difference is not None:
            row |= {f"difference_{name}": getattr(cell.difference, name) for name in ("mean", "low", "high")}
        rows.append(row)
    return rows


def _comparison_rows(cells: list[summary.CellSummary]) -> list[dict[str, Any]]:
    return [
        cell.setting.key
        | {"method": row["method"], "budget": budget, "flops": cell.flops, "updates": cell.updates}
        | {f"difference_{name}": getattr(cell.difference, name) for name in ("mean", "low", "high", "n")}
        for row in summary.comparisons(cells)
        for budget in summary.BUDGETS
        if (cell := row[budget]) is not None and cell.difference is not None
    ]


def _cost_rows(cells: list[summary.CellSummary]) -> list[dict[str, Any]]:
    names = ("parameters", "forward_flops", "budget", "steps", "step_cost", "flops", "updates")
    names += ("throughput", "throughput_ratio", "seconds")
    return [
        cell.setting.key | {"method": cell.method} | {name: getattr(cell, name) for name in names} for cell in cells
    ]
