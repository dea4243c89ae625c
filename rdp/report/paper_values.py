"""What the paper shows: every value that its templates name, from a study's records, verdicts and figures."""

import json
import re
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from rdp import data, models, tables
from rdp.claims import metrics, verdict_json
from rdp.claims.model import KINDS
from rdp.claims.verdicts import WORDS
from rdp.methods import method_class
from rdp.report import claims_view, compute_cost, contents, efficiency, facts, summary
from rdp.report.formatting import DASH, listed
from rdp.study import Plan, comparisons
from rdp.tables.collect import ROW_STATUSES
from rdp.utils import distribution

_NARROW = 345.0  # points of a figure that can be read at half the column
_HEAD = 2000  # characters of an SVG file, its size among them


def values(plan: Plan, results: Path) -> dict[str, Any]:
    """Everything that the templates show."""
    table = tables.load(plan, results).records
    decided = verdict_json.read(plan.name, results)
    cells = summary.cells(plan, table)
    figures = _figures(plan, results / plan.name / "figures")
    claims = [_claim(claim) for claim in decided["claims"]]
    beside = _beside(claims, figures)
    counts = table["status"].value_counts()
    datasets = list(dict.fromkeys(cell.dataset for cell in plan.cells))
    kinds = {name: KINDS[name not in decided["confirmatory"]] for name in datasets}
    return {
        "plan": plan,
        "version": distribution.version(),
        "commits": sorted(table["commit"].dropna().unique()),
        "begun": sorted(table["started"].dropna()) if "started" in table else [],
        "runs": len(table),
        "counts": {status: int(counts.get(status, 0)) for status in ROW_STATUSES},
        "seeds": plan.study.seed_list(),
        "baseline": comparisons.baseline(plan),
        "sentences": list(summary.sentences(cells, comparisons.baseline(plan))),
        "cells": cells,
        "comparisons": summary.by_budget(cells),
        "budgets": summary.BUDGETS,
        "efficient": list(efficiency.efficiencies(plan, table)),
        "datasets": {name: data.info(name) for name in datasets},
        "confirmatory": decided["confirmatory"],
        "data_of": {kind: [name for name in datasets if kinds[name] == kind] for kind in KINDS},
        "early": [claim["name"] for claim in claims if claim["tested"] and claim["runs_before_it"]],
        "sure": f"{100 * (1 - decided['level']):g} %",
        "sure_within": f"{100 * (1 - 2 * decided['level']):g} %",
        "level": f"{decided['level']:g}",
        "claims": claims,
        "knowing": compute_cost.rows(decided),
        "energies": compute_cost.energies(decided),
        "tally": claims_view.tally(decided),
        "effects": [
            {"word": word, "kind": kind, "effects": found}
            for word in WORDS[:2]
            for kind in KINDS
            if (found := _effects(claims, kind, word))
        ],
        "figures": figures,
        "beside": beside,
        "rest": _rows({name: figure for name, figure in figures.items() if name not in chain(*beside.values())}),
        "architectures": {cell.architecture: models.architecture(cell.architecture) for cell in plan.cells},
        "methods": _methods(plan),
        "entries": _entries(plan),
        "shared": _recipes(plan)[0],
        "recipes": _recipes(plan)[1],
        "recording": facts.recording(plan, table, results),
        "machines": facts.machines(table),
        "adopted": facts.adopted(table),
        "unfinished": facts.unfinished(plan, table),
        "largest": max((cell.parameters for cell in cells), default=float("nan")),
        "longest": max((cell.steps for cell in cells if cell.steps == cell.steps), default=float("nan")),
        "choices": contents.choices(),
    }


def _claim(claim: dict[str, Any]) -> dict[str, Any]:
    """A claim of ``claims.json``, the comparisons of each verdict in groups of one kind."""
    verdicts = {}
    for kind, verdict in claim["verdicts"].items():
        groups: dict[tuple[str, bool], list[dict[str, Any]]] = {}
        for row in (*verdict["comparisons"], *verdict["beside"]):
            groups.setdefault((row["what"], row["decides"]), []).append(row)
        told_of = any(row["n"] for rows in groups.values() for row in rows)
        diverged = sum(row["diverged"] for rows in groups.values() for row in rows)
        left_out = {run for rows in groups.values() for row in rows for run in row["left_out"]}
        verdicts[kind] = verdict | {"groups": list(groups.values()) if told_of else []}
        verdicts[kind] |= {"diverged": diverged, "left_out": len(left_out)}
    return claim | {"verdicts": verdicts, "tested": any(v["verdict"] != "not tested" for v in verdicts.values())}


def _beside(claims: list[dict[str, Any]], figures: Iterable[str]) -> dict[str, list[str]]:
    """By claim the figures that stand beside it: each of them beside the first of the claims that it shows."""
    found: dict[str, list[str]] = {}
    free = list(figures)
    for claim in claims if free else ():
        compared = [row for verdict in claim["verdicts"].values() for rows in verdict["groups"] for row in rows]
        names = dict.fromkeys(row["metric"] for row in compared if claim["tested"])
        mine = dict.fromkeys(
            name for metric in names for name in metrics.available()[metric].figures[:1] if name in free
        )
        found[claim["name"]] = list(mine)
        free = [name for name in free if name not in mine]
    return found


def _effects(claims: list[dict[str, Any]], kind: str, word: str) -> list[dict[str, Any]]:
    """Of each claim with that verdict, the smallest and the largest effect of its first part."""
    rows = []
    for claim in claims:
        verdict = claim["verdicts"][kind]
        if verdict["verdict"] != word:
            continue
        first = verdict["comparisons"][0]["what"]
        known = [row for row in verdict["comparisons"] if row["what"] == first and row["n"]]
        ends = sorted(known, key=lambda row: row["mean"])
        rows.append({"claim": claim, "what": first, "settings": len(ends), "ends": ends[:: max(len(ends) - 1, 1)]})
    return rows


def _figures(plan: Plan, drawn: Path) -> dict[str, dict[str, Any]]:
    """The study's figures in its order, with their captions and their place below the study's folder."""
    found = {}
    for name in contents.figures(plan):
        width = _width(contents.drawing(plan, name, drawn))
        found[name] = contents.caption(name) | {"path": f"/figures/{name}.svg", "width": width}
    return found


def _width(drawing: str) -> float:
    """How wide a figure was drawn, in points; infinity for one that does not say."""
    found = re.search(r'<svg[^>]*?\swidth="([\d.]+)pt"', drawing[:_HEAD])
    return float(found[1]) if found else float("inf")


def _rows(figures: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The figures in rows: those that are narrow two by two, then each of the others."""
    narrow = [name for name, figure in figures.items() if figure["width"] <= _NARROW]
    return [narrow[i : i + 2] for i in range(0, len(narrow), 2)] + [[name] for name in figures if name not in narrow]


def _methods(plan: Plan) -> dict[str, dict[str, str]]:
    """The methods that the study trains, each with what its file says of it and the defaults of its options."""
    found = {}
    for name in dict.fromkeys(cell.specs[0].method for cell in plan.cells):
        of = method_class(name)
        says = (sys.modules[of.__module__].__doc__ or "").strip().partition("\n")[0]
        found[name] = {"says": says, "defaults": _pairs(of().model_dump(mode="json"), leave=("path",))}
    return found


def _entries(plan: Plan) -> list[dict[str, str]]:
    """The study's own names for methods, where they are no method's with its defaults, and what each changes."""
    rows = {}
    for cell in plan.cells:
        spec, entry = cell.specs[0], plan.study.methods[cell.label]
        usual = method_class(spec.method)().model_dump(mode="json")
        changed = {name: value for name, value in spec.options.items() if value != usual.get(name)} | entry.recipe
        parts = [_pairs(changed), *([f"as {entry.form}"] if entry.form else [])]
        changes = "; ".join(part for part in parts if part)
        if changes or cell.label != spec.method:
            rows[cell.label] = {"label": cell.label, "method": spec.method, "changes": changes or DASH}
    return list(rows.values())


def _recipes(plan: Plan) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What all recipes share, and of each what is its own, with the cells that are trained so."""
    found: dict[str, tuple[dict[str, str], list[Any]]] = {}
    for cell in plan.cells:
        spec = cell.specs[0]
        recipe = {name: _entry(name, value) for name, value in spec.recipe.model_dump().items()}
        if spec.tuning:
            recipe["learning_rate"] = f"swept over {listed([f'{rate:g}' for rate in spec.tuning.learning_rates])}"
        found.setdefault(json.dumps(recipe), (recipe, []))[1].append(cell)
    every = [recipe for recipe, _ in found.values()]
    shared = {name: value for name, value in every[0].items() if all(recipe[name] == value for recipe in every)}
    labels = list(dict.fromkeys(cell.label for cell in plan.cells))
    rows = []
    for recipe, cells in found.values():
        here = list(dict.fromkeys(cell.label for cell in cells))
        rows.append(
            {
                "own": _pairs({name: value for name, value in recipe.items() if name not in shared}),
                "settings": list(dict.fromkeys(f"{cell.architecture} on {cell.dataset}" for cell in cells)),
                "methods": [] if here == labels else here,
                "cells": len(cells),
            }
        )
    return shared, rows


def _entry(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "all" if name == "train_size" else DASH
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pairs(entries: dict[str, Any], leave: tuple[str, ...] = ()) -> str:
    return ", ".join(f"{name} {_entry(name, value)}" for name, value in entries.items() if name not in leave)
