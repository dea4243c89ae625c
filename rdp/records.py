"""Records to tables: one row a run, one row a run and epoch, one row a run of a sweep.

Tables hold every run of a study, those that failed or are missing too: nothing is dropped on the way to a
figure. A record that a damaged file or other code left is not used, and its row says why.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from rdp import data, fingerprint, models, sealed
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store
from rdp.study import Cell, Plan

TABLES = ("records", "history", "sweep")
HISTORY_COLUMNS = (
    "epoch",
    "step",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
)


def collect(plan: Plan, results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The records and the history of a study's runs.

    Returns:
        Records, one row a run in the study's order, and history, one row a run and epoch. In records,
        ``accuracy`` is what enters a mean: test accuracy after the last epoch, chance (1 / classes) for a
        diverged run, and missing for a run that failed or is not there.
    """
    store = Store(results)
    rows, history = [], []
    for cell in plan.cells:
        for spec in cell.specs:
            record, problem = readable(store, spec)
            row = _key(cell, spec) | _row(spec, record, problem)
            rows.append(row)
            if record is not None:
                key = {name: row[name] for name in ("run", "dataset", "architecture", "method", "seed")}
                history.extend(key | epoch for epoch in record.numbers.get("history", []))
    columns = ["run", "dataset", "architecture", "method", "seed", *HISTORY_COLUMNS]
    table = pd.DataFrame(history, columns=columns)
    # A study in which nothing was validated yet must still give columns of numbers.
    return pd.DataFrame(rows), table.astype(dict.fromkeys(HISTORY_COLUMNS[2:], "float64"))


def collect_sweep(plan: Plan, results: Path, records: pd.DataFrame) -> pd.DataFrame:
    """The runs of the sweeps that chose learning rates, one row a cell, learning rate and seed.

    ``records`` are those of `collect`, which say what was chosen.

    ``accuracy`` is what the choice goes by: validation accuracy after the last epoch, chance for a diverged run,
    missing for one that failed or is not there. ``train_loss`` is that of the last epoch. ``chosen`` says whether
    the cell's runs train with this rate; it is missing where none of them is there yet.
    """
    store = Store(results)
    rows = []
    chosen = {cell: set(rates.dropna()) for cell, rates in records.groupby("cell")["learning_rate"]}
    for cell in plan.cells:
        rates = chosen[cell.id]
        for spec in cell.specs[0].candidates():
            record, problem = readable(store, spec)
            last = (record.numbers.get("history") or [{}])[-1] if record else {}
            depth = models.architecture(spec.architecture).depth
            status = record.status if record else "missing"
            accuracy = data.info(spec.dataset).chance if status == "diverged" else last.get("validation_accuracy")
            rate = spec.recipe.learning_rate
            row = {"run": cell.specs[0].run, "sweep_run": spec.run, "dataset": cell.dataset}
            row |= {"architecture": cell.architecture, "method": cell.label, "seed": spec.seed, "learning_rate": rate}
            row |= {"status": status, "reason": record.reason if record else problem, "accuracy": accuracy}
            row |= {"train_loss": last.get("train_loss"), "depth": depth}
            row["started"] = record.telemetry.get("started") if record else None
            rows.append(row | {"chosen": rate in rates if rates else None})
    columns = ["run", "sweep_run", "dataset", "architecture", "depth", "method", "seed", "learning_rate", "status"]
    table = pd.DataFrame(rows, columns=[*columns, "reason", "started", "train_loss", "accuracy", "chosen"])
    return table.astype(dict.fromkeys(("learning_rate", "accuracy", "train_loss"), "float64"))


def write(plan: Plan, results: Path) -> pd.DataFrame:
    """Write ``records.parquet``, ``history.parquet`` and ``sweep.parquet`` of a study; return the records."""
    records, history = collect(plan, results)
    save(plan.name, results, records, history, collect_sweep(plan, results, records))
    return records


def save(study: str, results: Path, *tables: pd.DataFrame) -> None:
    """Write the tables of a study, those of `TABLES`. Each belongs to the one before it, the first to the study."""
    of = study
    for name, table in zip(TABLES, tables, strict=True):
        of = sealed.write_table(results / study / f"{name}.parquet", table, of)


def read(study: str, results: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The tables that `write` left, all of one writing: it may have been killed between two of them."""
    of, tables = study, []
    for name in TABLES:
        path = results / study / f"{name}.parquet"
        table, of = sealed.read_table(path, of, f"run: rdp collect {study}")
        tables.append(table)
    return tables[0], tables[1], tables[2]


def readable(store: Store, spec: RunSpec) -> tuple[RunRecord | None, str | None]:
    """A run's record if it may be used, and else None and why not."""
    try:
        record = store.received(spec.run)
    except UserError as error:
        return None, f"damaged: {error}"
    if record is None:
        return None, "not trained yet"
    if record.identity["spec"] != spec.spec_digest:
        return None, "damaged: the record is of another run"
    if record.identity["code"] != fingerprint.code_of(spec):
        return None, "made by other code than this checkout's; train it again, or check out its commit"
    return record, None


def _key(cell: Cell, spec: RunSpec) -> dict[str, Any]:
    return {
        "run": spec.run,
        "cell": spec.cell,
        "dataset": spec.dataset,
        "architecture": cell.architecture,
        "network": spec.architecture,
        "depth": models.architecture(spec.architecture).depth,
        "method": cell.label,
        "method_name": spec.method,
        "options": json.dumps(spec.options, sort_keys=True),
        "recipe": json.dumps(spec.recipe.model_dump(mode="json"), sort_keys=True),
        "seed": spec.seed,
        "threads": spec.threads,
        "chance": data.info(spec.dataset).chance,
    }


def _row(spec: RunSpec, record: RunRecord | None, problem: str | None) -> dict[str, Any]:
    numbers = record.numbers if record else {}
    telemetry = record.telemetry if record else {}
    last = (numbers.get("history") or [{}])[-1]
    stack = telemetry.get("stack", {})
    status = record.status if record else "missing"
    accuracy = numbers.get("test_accuracy")
    if status == "diverged":
        accuracy = data.info(spec.dataset).chance
    row = {
        "status": status,
        "reason": record.reason if record else problem,
        "accuracy": accuracy,
        "test_accuracy": numbers.get("test_accuracy"),
        "test_loss": numbers.get("test_loss"),
        "validation_accuracy": last.get("validation_accuracy"),
        "train_loss": last.get("train_loss"),
        "train_accuracy": last.get("train_accuracy"),
        "diverged_step": numbers.get("diverged_step"),
        "parameters": numbers.get("parameters"),
        "forward_flops": numbers.get("forward_flops"),
        "iteration_flops": numbers.get("iteration_flops"),
        "training_flops": numbers.get("training_flops"),
        "unit_updates": numbers.get("unit_updates"),
        "learning_rate": numbers.get("learning_rate"),
        "units": numbers.get("units"),
        "steps": numbers.get("steps"),
        "examples": numbers.get("examples"),
        "train_seconds": telemetry.get("train_seconds"),
        "seconds": telemetry.get("seconds"),
        "examples_per_second": telemetry.get("examples_per_second"),
        "process_peak_bytes": telemetry.get("process_peak_bytes"),
    }
    row = {name: float("nan") if value is None else value for name, value in row.items() if name != "reason"}
    row["reason"] = record.reason if record else problem
    for name in ("host", "started", "commit", "system"):
        row[name] = telemetry.get(name)
    row["device"] = stack.get("device")
    row["stack"] = json.dumps(telemetry.get("versions", {}) | stack, sort_keys=True)
    for name in ("spec", "data", "code", "stack"):
        row[f"{name}_digest"] = record.identity[name] if record else None
    row["digest"] = record.digest if record else None
    return row
