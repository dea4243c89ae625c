"""Claims and their verdicts as the page shows them, from what `claims.json` holds."""

from collections.abc import Collection
from typing import Any

from rdp.claims import metrics, phrasing
from rdp.claims.model import KINDS, Part
from rdp.claims.verdicts import WORDS
from rdp.report import formatting

PAPERS = {"2411.09475": "ResidualDroppath", "2402.08645": "Plain Neural Net Hypothesis"}
_SHARES = ("p_holm", "p_contrary_holm", "p_sign_flip")


def groups(content: dict[str, Any], drawn: dict[str, str], runs: Collection[str]) -> list[dict[str, Any]]:
    """The claims by whose they are: each paper's, and then those of no paper.

    Args:
        content: what `rdp.claims.verdict_json.read` returned.
        drawn: the titles of the figures that the report has, by name.
        runs: the names of the runs that the explorer has.
    """
    found: dict[str | None, list[dict[str, Any]]] = {}
    for claim in content["claims"]:
        found.setdefault(claim["source"]["paper"], []).append(_claim(claim, drawn, runs))
    papers = sorted(found, key=lambda paper: paper is None)  # in the file's order, ours behind
    return [
        {"paper": paper, "title": PAPERS.get(paper or "", ""), "ours": paper is None, "claims": found[paper]}
        for paper in papers
    ]


def tally(content: dict[str, Any]) -> dict[str, dict[str, int]]:
    """How many claims have each verdict, by kind of datasets."""
    found = {kind: [claim["verdicts"][kind]["verdict"] for claim in content["claims"]] for kind in KINDS}
    return {kind: {word: here.count(word) for word in WORDS} for kind, here in found.items()}


def _claim(claim: dict[str, Any], drawn: dict[str, str], runs: Collection[str]) -> dict[str, Any]:
    confirmatory, exploratory = KINDS
    stronger = confirmatory if claim["verdicts"][confirmatory]["verdict"] != "not tested" else exploratory
    kinds = {kind: _verdict(verdict, runs) for kind, verdict in claim["verdicts"].items()}
    return claim | {
        "kinds": kinds,
        "evidence": {"kind": stronger, "line": claim["verdicts"][stronger]["line"]},
        "figures": {name: drawn[name] for name in figures(claim) if name in drawn},
    }


def figures(claim: dict[str, Any]) -> list[str]:
    """The figures that belong to a claim, whether a study has them or not, the plainest of what it tests first."""
    found: dict[str, None] = {}
    compared = [
        c for part in ("comparisons", "beside") for verdict in claim["verdicts"].values() for c in verdict[part]
    ]
    for c in compared:
        found |= dict.fromkeys(metrics.available()[c["metric"]].figures)
    return list(found)


def _verdict(verdict: dict[str, Any], runs: Collection[str]) -> dict[str, Any]:
    several = len({c["what"] for c in verdict["comparisons"]}) > 1
    return verdict | {
        **{part: _compared(verdict[part], runs) for part in ("comparisons", "beside")},
        "settings": verdict["settings"] if several else {},  # of one part, the table says the same
        "aggregate": [
            {
                "what": row["what"],
                "settings": row["settings"],
                "probability": formatting.interval(row["probability_of_improvement"], "{:.2f}"),
                "interquartile": {
                    name: formatting.interval(e, "{:.1f}") for name, e in row["interquartile_mean"].items()
                },
            }
            for row in verdict["aggregate"]
            if row["settings"]
        ],
    }


def _compared(comparisons: list[dict[str, Any]], runs: Collection[str]) -> dict[str, Any]:
    """Comparisons, those with numbers as rows, and the settings of the others by what was not known and why."""
    absent: dict[tuple[str, str], list[str]] = {}
    for c in comparisons:
        if c["outcome"] == "absent":
            absent.setdefault((c["what"], c["reason"]), []).append(c["setting"])
    told_all = [_comparison(c, runs) for c in comparisons]
    return {"all": told_all, "rows": [c for c in told_all if c["outcome"] != "absent"], "absent": absent}


def _comparison(c: dict[str, Any], runs: Collection[str]) -> dict[str, Any]:
    part = _part(c)
    bound = phrasing.bound(part) + (
        f"; negligible: {phrasing.amount(part, part.negligible)}" if part.negligible else ""
    )
    seen = formatting.DASH if c["detectable"] is None else phrasing.amount(part, c["detectable"]).lstrip("+")
    left_out: dict[str, list[str]] = {}
    for run, reason in c["left_out"].items():
        left_out.setdefault(reason, []).append(run)
    shown = {
        "bound": bound,
        "size": {"full": c["size"], "shown": formatting.number(c["size"], "{:+.2f}")},
        "detectable": {"full": c["detectable"], "shown": seen},
        "by_seed": [phrasing.amount(part, value, bare=True) for value in c["values"] if value is not None],
        "cells": _by_cell([run for names in c["runs"] for run in names], runs),
        "left_out": {reason: _by_cell(names, runs) for reason, names in left_out.items()},
    }
    return c | shown | {name: {"full": c[name], "shown": formatting.p(c, name)} for name in _SHARES}


def _part(c: dict[str, Any]) -> Part:
    """The part of the claim that a comparison is of, as far as its numbers' units and bounds depend on it."""
    names = ("metric", "budget", "stage", "direction", "margin", "negligible", "method", "against")
    return Part.model_construct(**{name: c[name] for name in names})


def _by_cell(names: list[str], runs: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """The seeds of each cell's runs, and whether the explorer has them: it has none of a sweep's."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in dict.fromkeys(names):
        cell, _, seed = run.partition("/")
        found.setdefault(cell, []).append({"run": run, "seed": int(seed.rpartition("-")[2]), "linked": run in runs})
    return found
