"""A study's tables as CSV and LaTeX files."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from rdp.claims import verdict_json
from rdp.claims.model import KINDS
from rdp.jobs import energy
from rdp.report import efficiency, summary, tex
from rdp.tables.collect import ROW_STATUSES
from rdp.utils import files

_COMPARED = ["dataset", "architecture", "recipe", "method", "budget", "flops", "updates"]
_COMPARED += [f"difference_{name}" for name in ("mean", "low", "high", "n")]
_EFFICIENT = [field.name for field in fields(efficiency.Efficiency)]


def write(folder: Path, shared: dict[str, Any]) -> None:
    """Write each table of `rdp.report.contents.TABLES` as ``.csv`` and ``.tex``, from `rdp.report.facts.gather`."""
    cells = shared["cells"]
    # With one budget or one width, the table of comparisons or of efficiency has no rows.
    tables = {
        "accuracy": pd.DataFrame(_accuracy_rows(cells)),
        "claims": pd.DataFrame(
            verdict_json.summary_rows(shared["verdicts"]), columns=["claim", "title", "source", *KINDS]
        ),
        "comparisons": pd.DataFrame(_comparison_rows(shared["comparisons"]), columns=_COMPARED),
        "cost": pd.DataFrame(_cost_rows(cells)),
        "compute_cost": pd.DataFrame(shared["costs"]).astype(dict.fromkeys(energy.KINDS, "float64")),
        "efficiency": pd.DataFrame(map(vars, shared["efficient"]), columns=_EFFICIENT),
    }
    for name, table in tables.items():
        with files.atomic_write(folder / f"{name}.csv") as part:
            table.to_csv(part, index=False)
        with files.atomic_write(folder / f"{name}.tex") as part:
            part.write_text(tex.tabular(table), encoding="utf-8")


def _accuracy_rows(cells: list[summary.CellSummary]) -> list[dict[str, Any]]:
    rows = []
    for cell in cells:
        row: dict[str, Any] = cell.setting.key | {"method": cell.method}
        row |= {"mean": cell.accuracy.mean, "low": cell.accuracy.low, "high": cell.accuracy.high}
        row |= {"runs_in_mean": cell.accuracy.n, "seeds": cell.seeds}
        row["learning_rate"] = " ".join(f"{rate:g}" for rate in cell.learning_rates)
        row |= {status: cell.counts.get(status, 0) for status in ROW_STATUSES}
        if cell.difference is not None:
            row |= {f"difference_{name}": getattr(cell.difference, name) for name in ("mean", "low", "high")}
        rows.append(row)
    return rows


def _comparison_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        cell.setting.key
        | {"method": row["method"], "budget": budget, "flops": cell.flops, "updates": cell.updates}
        | {f"difference_{name}": getattr(cell.difference, name) for name in ("mean", "low", "high", "n")}
        for row in rows
        for budget in summary.BUDGETS
        if isinstance(cell := row[budget], summary.CellSummary) and cell.difference is not None
    ]


def _cost_rows(cells: list[summary.CellSummary]) -> list[dict[str, Any]]:
    names = ["parameters", "forward_flops", "budget", "steps", "step_cost", "flops", "updates"]
    names += ["throughput", "throughput_ratio", "seconds"]
    return [
        cell.setting.key | {"method": cell.method} | {name: getattr(cell, name) for name in names} for cell in cells
    ]
