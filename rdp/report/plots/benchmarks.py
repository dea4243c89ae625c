"""Figure of the benchmarks of this software by machine, with the required range of each ratio."""

import textwrap
from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rdp import bench
from rdp.report import style
from rdp.report.plots import common
from rdp.tables import Tables
from rdp.utils.humanize import count

FIGURES: dict[str, dict[str, str]] = {"benchmarks": {}}
_COLUMNS = (
    *("benchmark", "subject", "unit", "machine", "median", "low", "high", "least", "most"),
    *("rounds", "measured", "commit"),
)
_LINE = 30  # characters of an axis label


def benchmarks(tables: Tables) -> common.Drawing:
    """One panel per benchmark, one row per measured subject, one mark per machine."""
    table = _table(tables)
    machines = list(table["machine"].unique())
    panels = list(table.groupby(["benchmark", "title"], sort=False))
    lines = [rows["subject"].nunique() * len(machines) for _, rows in panels]
    figure, axes = common.grid(max(len(panels), 1), width=3.1, lines=lines)
    for axis, ((name, title), rows) in zip(axes, panels, strict=False):
        _panel(axis, rows, style.looks(machines))
        axis.set_title(f"rdp bench {name}")
        axis.set_xlabel(textwrap.fill(title, _LINE))
        axis.xaxis.set_major_locator(MaxNLocator(4))
    common.legend(figure, axes, machines)
    marks = "Lines: medians; bars: 95 % bootstrap intervals over rounds. Grey: required range of a ratio. "
    style.note(figure, f"{marks}Seconds: one execution of each command, and the median start of a job.")
    return common.Drawing(figure, table[list(_COLUMNS)])


def _panel(axis: Axes, rows: pd.DataFrame, looks: dict[str, style.Look]) -> None:
    subjects, machines = list(rows["subject"].unique()), list(rows["machine"].unique())
    common.rows_of_methods(axis, subjects)
    ratios = (rows["unit"] == "ratio").all()
    if ratios:
        axis.axvline(1, color="0.3", linewidth=1)
    for row in rows.itertuples():
        look = looks[row.machine]
        place = subjects.index(row.subject) + (machines.index(row.machine) + 0.5) / len(machines) - 0.5
        half = 0.36 / len(machines)
        axis.plot([row.low, row.high], [place, place], color=look.colour, lw=5, alpha=0.35, solid_capstyle="butt")
        axis.plot([row.median] * 2, [place - half, place + half], color=look.colour, lw=2, label=row.machine)
        axis.annotate(f"{row.median:.2f}", (row.high, place), (4, 0), textcoords="offset points", va="center", size=7)
    low, high = axis.get_xlim()
    low, high = (min(low, 0.9), max(high, 1.1)) if ratios else (0, high)
    for row in rows.itertuples():
        if row.least == row.least or row.most == row.most:  # not NaN: a range is required
            ends = (row.least if row.least == row.least else 0, row.most if row.most == row.most else 1e3)
            place = subjects.index(row.subject)
            axis.fill_betweenx([place - 0.45, place + 0.45], *ends, color="0.5", alpha=0.12, linewidth=0)
    axis.set_xlim(low, high + 0.08 * (high - low))


def _table(tables: Tables) -> pd.DataFrame:
    rows = []
    for path in bench.measured(tables.results):
        result = bench.read(path)
        key = {"benchmark": path.stem, "title": result["title"], "machine": _machine(result)}
        key |= {"rounds": result["setting"]["rounds"], "measured": result["measured"], "commit": result["commit"]}
        rows += [key | row for row in _measured(path.stem, result)]
    table = pd.DataFrame(rows, columns=["title", *_COLUMNS]).astype({"least": "float64", "most": "float64"})
    order = {name: place for place, name in enumerate(bench.SUITE)}
    return table.sort_values("benchmark", key=lambda names: names.map(order), kind="stable")


def _measured(name: str, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for row in result["comparisons"]:
        yield row["ratio"] | {name: row[name] for name in ("subject", "least", "most")} | {"unit": "ratio"}
    if name == "start":
        for row in result["rows"]:
            yield _once(row["architecture"], sum(row["seconds"].values()))
    if name == "workflow":
        most = max(result["rows"], key=lambda row: row["runs"])
        title = f"Seconds, for a study of {most['runs']:,} runs"
        for command, label in bench.COMMANDS.items():
            yield _once(label, most[command]) | {"title": title}


def _once(subject: str, seconds: float) -> dict[str, Any]:
    return {"subject": subject, "unit": "seconds", "median": seconds, "low": seconds, "high": seconds}


def _machine(result: dict[str, Any]) -> str:
    machine, setting = result["machine"], result["setting"]
    device = machine["stack"]["device"].partition(", cpu family")[0]
    cores = f"{machine['cores']} cores, {count(setting['threads'], 'thread')}"
    versions = f"torch {result['versions']['torch']}, {setting['precision']}"
    return f"{device}, {cores}, {versions}, batch {setting['batch_size']}"
