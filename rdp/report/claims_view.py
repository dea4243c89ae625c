"""Claims and verdicts of ``claims.json`` in the form that the page shows."""

from collections.abc import Collection
from typing import Any

from rdp.claims import metrics, phrasing
from rdp.claims.model import KINDS
from rdp.claims.verdicts import WORDS
from rdp.report import formatting

PAPERS = {"2411.09475": "ResidualDroppath", "2402.08645": "Plain Neural Net Hypothesis"}
_SHARES = ("p_holm", "p_contrary_holm", "p_sign_flip")


def groups(content: dict[str, Any], drawn: dict[str, str], runs: Collection[str]) -> list[dict[str, Any]]:
    """The claims of ``claims.json`` by paper, in the file's order, then those of this project.

    ``drawn`` are the titles of the report's figures by name, ``runs`` the names of the runs in the explorer.
    """
    by_paper: dict[str | None, list[dict[str, Any]]] = {}
    for claim in content["claims"]:
        by_paper.setdefault(claim["source"]["paper"], []).append(_claim(claim, drawn, runs))
    return [
        {"paper": paper, "title": PAPERS.get(paper or "", ""), "ours": paper is None, "claims": by_paper[paper]}
        for paper in sorted(by_paper, key=lambda paper: paper is None)
    ]


def tally(content: dict[str, Any]) -> dict[str, dict[str, int]]:
    """The number of claims with each verdict, by kind of dataset."""
    verdicts = {kind: [claim["verdicts"][kind]["verdict"] for claim in content["claims"]] for kind in KINDS}
    return {kind: {word: words.count(word) for word in WORDS} for kind, words in verdicts.items()}


def _claim(claim: dict[str, Any], drawn: dict[str, str], runs: Collection[str]) -> dict[str, Any]:
    tested = [kind for kind in KINDS if claim["verdicts"][kind]["verdict"] != "not tested"]
    compared = [kind for kind in KINDS if claim["verdicts"][kind]["comparisons"]]
    stronger = (*tested, *compared, *reversed(KINDS))[0]
    kinds = {kind: _verdict(verdict, runs) for kind, verdict in claim["verdicts"].items()}
    return claim | {
        "untested": not tested,
        "kinds": kinds,
        "evidence": {"kind": stronger, "line": claim["verdicts"][stronger]["line"]},
        "figures": {name: drawn[name] for name in figures(claim) if name in drawn},
    }


def figures(claim: dict[str, Any]) -> list[str]:
    """The figures that show a claim's metrics, the plainest of the deciding metrics first."""
    compared = [
        c for part in ("comparisons", "beside") for verdict in claim["verdicts"].values() for c in verdict[part]
    ]
    return list(dict.fromkeys(name for c in compared for name in metrics.available()[c["metric"]].figures))


def _verdict(verdict: dict[str, Any], runs: Collection[str]) -> dict[str, Any]:
    several = len({c["what"] for c in verdict["comparisons"]}) > 1
    return verdict | {
        **{part: _compared(verdict[part], runs) for part in ("comparisons", "beside")},
        "settings": verdict["settings"] if several else {},  # with one part, the table shows the same
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
    absent: dict[tuple[str, str], list[str]] = {}
    for c in comparisons:
        if c["outcome"] == "absent":
            absent.setdefault((c["what"], c["reason"]), []).append(c["setting"])
    shown = [_comparison(c, runs) for c in comparisons]
    return {"all": shown, "rows": [c for c in shown if c["outcome"] != "absent"], "absent": absent}


def _comparison(c: dict[str, Any], runs: Collection[str]) -> dict[str, Any]:
    part = formatting.part_of(c)
    bound = f"condition: {phrasing.bound(part)}" if c["condition"] else phrasing.bound(part)
    if part.negligible:
        bound += f"; negligible: {phrasing.amount(part, part.negligible).lstrip('+')}"
    detectable = formatting.DASH
    if c["detectable"] is not None:
        detectable = phrasing.amount(part, c["detectable"]).lstrip("+")
    left_out: dict[str, list[str]] = {}
    for run, reason in c["left_out"].items():
        left_out.setdefault(reason, []).append(run)
    shown = {
        "bound": bound,
        "size": {"full": c["size"], "shown": formatting.number(c["size"], "{:+z.2f}")},
        "detectable": {"full": c["detectable"], "shown": detectable},
        "by_seed": [phrasing.amount(part, value, bare=True) for value in c["values"] if value is not None],
        "cells": _by_cell([run for names in c["runs"] for run in names], runs),
        "left_out": {reason: _by_cell(names, runs) for reason, names in left_out.items()},
    }
    return c | shown | {name: {"full": c[name], "shown": formatting.p(c, name)} for name in _SHARES}


def _by_cell(names: list[str], runs: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """The seeds of each cell's runs, and whether the explorer has the run. It has no runs of sweeps."""
    cells: dict[str, list[dict[str, Any]]] = {}
    for run in dict.fromkeys(names):
        cell, _, seed = run.partition("/")
        cells.setdefault(cell, []).append({"run": run, "seed": int(seed.rpartition("-")[2]), "linked": run in runs})
    return cells
