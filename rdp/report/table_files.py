"""A study's tables as CSV and LaTeX files."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from rdp.claims import verdict_json
from rdp.claims.model import KINDS
from rdp.jobs import energy
from rdp.report import efficiency, summary
from rdp.tables.collect import ROW_STATUSES
from rdp.utils import files

_COMPARED = ["dataset", "architecture", "recipe", "method", "budget", "flops", "updates"]
_COMPARED += [f"difference_{name}" for name in ("mean", "low", "high", "n")]
_COST = ["parameters", "forward_flops", "activation_bytes", "budget", "steps", "step_cost", "flops", "updates"]
_COST += ["throughput", "throughput_ratio", "seconds"]
_EFFICIENT = [field.name for field in fields(efficiency.Efficiency)]

_ESCAPES = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # at the start of a row it would be an argument of the preceding line break
    "\u2212": "$-$",
    "\u2013": "--",
    "\u00b2": "$^2$",
}
_ESCAPED = str.maketrans(_ESCAPES)


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
        "cost": pd.DataFrame([_row(cell) | {name: getattr(cell, name) for name in _COST} for cell in cells]),
        "compute_cost": pd.DataFrame(shared["costs"]).astype(dict.fromkeys(energy.KINDS, "float64")),
        "efficiency": pd.DataFrame(map(vars, shared["efficient"]), columns=_EFFICIENT),
    }
    for name, table in tables.items():
        with files.atomic_write(folder / f"{name}.csv") as part:
            table.to_csv(part, index=False)
        with files.atomic_write(folder / f"{name}.tex") as part:
            part.write_text(tabular(table), encoding="utf-8")


def _row(cell: summary.CellSummary) -> dict[str, Any]:
    return cell.setting.key | {"method": cell.method}


def _accuracy_rows(cells: list[summary.CellSummary]) -> list[dict[str, Any]]:
    rows = []
    for cell in cells:
        row = _row(cell)
        row |= {"mean": cell.accuracy.mean, "low": cell.accuracy.low, "high": cell.accuracy.high}
        row |= {"validation": cell.validation, "runs_in_mean": cell.accuracy.n, "seeds": cell.seeds}
        row["learning_rate"] = " ".join(f"{rate:g}" for rate in cell.learning_rates)
        row["norm_gain"] = " ".join(f"{gain:g}" for gain in cell.norm_gains)
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


def tabular(table: pd.DataFrame) -> str:
    """A table as a ``tabular`` environment with booktabs rules."""
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    rows = (
        [
            _latex_number(float(value)) if number else _latex_text(value)
            for value, number in zip(row, numeric, strict=True)
        ]
        for row in table.itertuples(index=False)
    )
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}.",
            rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numeric)}}}",
            r"\toprule",
            " & ".join(map(_latex_text, table.columns)) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex_text(value: Any) -> str:
    return " ".join(str(value).split()).translate(_ESCAPED)


def _latex_number(number: float) -> str:
    """A number with four significant digits, or all digits of a whole number; two dashes for NaN."""
    if math.isnan(number):
        return "--"
    if math.isinf(number):
        return r"$\infty$" if number > 0 else r"$-\infty$"
    text = f"{number:.0f}" if number.is_integer() or abs(number) >= 1000 else f"{number:.4g}"
    return f"${text}$" if text.startswith("-") else text
