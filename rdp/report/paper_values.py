"""The values that the paper's templates use, from a study's records, verdicts and figures."""

import json
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from rdp import models
from rdp.claims import metrics, phrasing
from rdp.claims.model import KINDS
from rdp.methods import method_class
from rdp.report import contents, facts, paper_results
from rdp.report.formatting import DASH, part_of
from rdp.study import Plan
from rdp.utils.humanize import count, listed

_REFERENCES = {"2411.09475": "park", "2402.08645": "zhang"}  # keys of the papers in the bibliography


def values(plan: Plan, results: Path) -> dict[str, Any]:
    """All values that the templates use, by name."""
    shared = facts.gather(plan, results)
    table, verdicts, cells = shared["tables"].records, shared["verdicts"], shared["cells"]
    figures = _figures(plan, results / plan.name / "figures")
    kinds = [kind for kind in KINDS if shared["data_of"][kind]]
    claims = [_claim(claim, kinds) for claim in verdicts["claims"]]
    subjects = paper_results.subjects(figures, claims, paper_results.has_depths(cells))
    main = {name for subject in subjects for name in subject["figures"]}
    beside = _beside(claims, [name for name in figures if name not in main])
    common, recipes = _recipes(plan)
    return shared | {
        "begun": sorted(table["started"].dropna()) if "started" in table else [],
        "early": [claim["name"] for claim in claims if claim["tested"] and claim["runs_before_it"]],
        "sure": f"{100 * (1 - verdicts['level']):g} %",
        "sure_within": f"{100 * (1 - 2 * verdicts['level']):g} %",
        "level": f"{verdicts['level']:g}",
        "claims": claims,
        "figures": figures,
        "subjects": subjects,
        "bands": paper_results.bands(cells),
        "differences": [paper_results.sign(cell) for cell in cells if cell.difference and cell.difference.has_interval],
        "kinds": kinds,
        "references": _REFERENCES,
        "shown_by": {claim["name"]: [name for name in _plainest(claim) if name in figures] for claim in claims},
        "beside": beside,
        "rest": [name for name in figures if name not in main and name not in chain(*beside.values())],
        "architectures": {cell.architecture: models.architecture(cell.architecture) for cell in plan.cells},
        "methods": _methods(plan),
        "entries": _entries(plan),
        "shared": common,
        "recipes": recipes,
        "largest": max((cell.parameters for cell in cells), default=float("nan")),
        "longest": max((cell.steps for cell in cells if cell.steps == cell.steps), default=float("nan")),
    }


def _claim(claim: dict[str, Any], kinds: list[str]) -> dict[str, Any]:
    """A claim of ``claims.json``, with the comparisons of each verdict grouped by part, and short forms of its lines.

    ``kinds`` are the kinds of data that the study has.
    """
    verdicts = {}
    for kind, verdict in claim["verdicts"].items():
        groups: dict[tuple[str, bool], list[dict[str, Any]]] = {}
        for row in (*verdict["comparisons"], *verdict["beside"]):
            groups.setdefault((row["what"], row["decides"]), []).append(row)
        measured = any(row["n"] for rows in groups.values() for row in rows)
        diverged = sum(row["diverged"] for rows in groups.values() for row in rows)
        left_out = {run for rows in groups.values() for row in rows for run in row["left_out"]}
        verdicts[kind] = verdict | {"groups": list(groups.values()) if measured else [], "deciding": _deciding(verdict)}
        verdicts[kind] |= {"diverged": diverged, "left_out": len(left_out)}
    shown = {kind: verdict for kind, verdict in verdicts.items() if verdict["verdict"] != "not tested"}
    reasons: dict[str, list[str]] = {}
    for kind in kinds:
        reasons.setdefault(verdicts[kind]["line"], []).append(kind)
    return claim | {"verdicts": verdicts, "shown": shown, "tested": bool(shown), "reasons": reasons}


def _beside(claims: list[dict[str, Any]], figures: Iterable[str]) -> dict[str, list[str]]:
    """The figures placed with each claim: each figure goes with the first claim that it shows."""
    placed: dict[str, list[str]] = {}
    free = list(figures)
    for claim in claims if free else ():
        placed[claim["name"]] = [name for name in _plainest(claim) if name in free]
        free = [name for name in free if name not in placed[claim["name"]]]
    return placed


def _plainest(claim: dict[str, Any]) -> list[str]:
    """The plainest figure of each metric that a tested claim compares."""
    compared = [row for verdict in claim["verdicts"].values() for rows in verdict["groups"] for row in rows]
    names = dict.fromkeys(row["metric"] for row in compared if claim["tested"])
    return list(dict.fromkeys(name for metric in names for name in metrics.available()[metric].figures[:1]))


def _deciding(verdict: dict[str, Any]) -> str:
    """The smallest and the largest mean effect of the part that decides a verdict; empty without numbers.

    It is the first part that fails in any setting, else that is undecided in any, else the first.
    """
    known = [
        row for row in verdict["comparisons"] if row["n"] and row["outcome"] != "untested" and not row["condition"]
    ]
    if not known:
        return ""
    chosen = next(
        (row for outcome in ("fails", "undecided", "holds") for row in known if row["outcome"] == outcome), known[0]
    )
    rows = sorted((row for row in known if row["what"] == chosen["what"]), key=lambda row: row["mean"])
    part = part_of(chosen)
    return f"{rows[0]['what']} is {phrasing.ends(part, rows[0]['mean'], rows[-1]['mean'])}"


def _figures(plan: Plan, drawn: Path) -> dict[str, dict[str, Any]]:
    figures = {}
    for name in contents.figures(plan):
        contents.drawing(plan, name, drawn)  # verifies it
        figures[name] = contents.caption(name) | {"path": f"/figures/{name}.svg"}
    return figures


def _methods(plan: Plan) -> dict[str, dict[str, str]]:
    """The study's methods, each with the first line of its module's docstring and its default options."""
    methods = {}
    for name in dict.fromkeys(cell.specs[0].method for cell in plan.cells):
        method = method_class(name)
        summary_line = (sys.modules[method.__module__].__doc__ or "").strip().partition("\n")[0]
        defaults = _pairs(method().model_dump(mode="json"), leave=("path",))
        methods[name] = {"summary": summary_line, "defaults": defaults}
    return methods


def _entries(plan: Plan) -> list[dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for cell in plan.cells:
        spec, entry = cell.specs[0], plan.study.methods[cell.label]
        defaults = method_class(spec.method)().model_dump(mode="json")
        changed = {name: value for name, value in spec.options.items() if value != defaults.get(name)}
        swept = spec.tuning.swept if spec.tuning else {}  # a sweep overrides these
        changed |= {name: value for name, value in entry.recipe.items() if name not in swept}
        if changed or entry.form or cell.label != spec.method:
            row = rows.setdefault(cell.label, {"label": cell.label, "method": spec.method, "changes": _pairs(changed)})
            if entry.form and (network := _network(cell.architecture, spec.architecture)) not in row["changes"]:
                row["changes"] = "; ".join(filter(None, (row["changes"], network)))
    return [row | {"changes": row["changes"] or DASH} for row in rows.values()]


def _network(name: str, form: str) -> str:
    """``resnet56 with widths 11, 22, 46``: what the form of an architecture changes."""
    full, changed = models.architecture(name).arguments, models.architecture(form).arguments
    different = {key: value for key, value in changed.items() if value != full.get(key)}
    texts = (
        f"{key} {', '.join(map(str, value)) if isinstance(value, tuple) else value}" for key, value in different.items()
    )
    return f"{name} with {', '.join(texts)}"


def _recipes(plan: Plan) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The settings that all recipes share, and each recipe's own settings with the cells it trains."""
    groups: dict[str, tuple[dict[str, str], list[Any]]] = {}
    for cell in plan.cells:
        spec = cell.specs[0]
        recipe = {name: _entry(name, value) for name, value in spec.recipe.model_dump().items()}
        if spec.tuning:
            compared = {"learning_rate": spec.tuning.learning_rates, "norm_gain": spec.tuning.norm_gains}
            runs = f"in runs of {count(spec.tuning.recipe.epochs, 'epoch')}"
            recipe |= {
                name: f"swept over {listed([f'{v:g}' for v in compared[name]])} {runs}" for name in spec.tuning.swept
            }
        groups.setdefault(json.dumps(recipe), (recipe, []))[1].append(cell)
    every = [recipe for recipe, _ in groups.values()]
    shared = {name: value for name, value in every[0].items() if all(recipe[name] == value for recipe in every)}
    labels = list(dict.fromkeys(cell.label for cell in plan.cells))
    rows = []
    for recipe, cells in groups.values():
        own_labels = list(dict.fromkeys(cell.label for cell in cells))
        rows.append(
            {
                "own": _pairs({name: value for name, value in recipe.items() if name not in shared}),
                "settings": list(dict.fromkeys(f"{cell.architecture} on {cell.dataset}" for cell in cells)),
                "methods": [] if own_labels == labels else own_labels,
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
