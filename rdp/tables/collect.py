"""Records to tables: one row a run, one row a run and epoch, one row a run of a sweep.

Tables hold every run of a study, those that failed or are missing too: nothing is dropped on the way to a
figure. A record that a damaged file or other code left is not used, and its row says why.

What the last collecting made of a record is used again where the record's file has the same checksum still: then it
need not be parsed and its digests need not be taken anew, which is most of the work.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from rdp import data, models
from rdp.errors import UserError
from rdp.jobs import energy
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store, fingerprint
from rdp.study import Cell, Plan, comparisons, is_baseline
from rdp.study.states import adopted, stale
from rdp.utils import digest, sealed

TABLES = ("records", "history", "sweep")
HISTORY_COLUMNS = (
    "epoch",
    "step",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
)


NUMBERS = (  # of a record, one a run
    *("test_accuracy", "test_loss", "validation_accuracy", "train_loss", "train_accuracy", "diverged_step"),
    *("parameters", "forward_flops", "iteration_flops", "training_flops", "unit_updates", "learning_rate"),
    *("units", "steps", "examples"),
)
_MEASURED = (  # its numbers, and those of its telemetry
    *NUMBERS,
    *("train_seconds", "seconds", "examples_per_second", "process_peak_bytes", *energy.KINDS),
)
_TOLD = ("host", "started", "commit", "system")
_FROM = ("spec_digest", "code_digest", "file_digest", "collector")  # what a row is made from, and by
_OF_RECORD = (
    *("status", "reason", "accuracy", *_MEASURED, *_TOLD, "device", "device_type", "stack"),
    *("data_digest", "stack_digest", "digest", "numbers_digest", "adopted", *_FROM),
)
_SPENT = ("seconds", *energy.KINDS)  # of a sweep's run
_OF_SWEEP = ("status", "reason", "started", "train_loss", "accuracy", *_SPENT, "device_type", "adopted", *_FROM)
_HISTORY_KEY = ("run", "dataset", "architecture", "method", "seed")
_WHOLE = ("parameters", "forward_flops", "iteration_flops", "units", "steps", "examples", "process_peak_bytes")


class Last:
    """A table of the last collecting, of which rows are used again.

    Args:
        table: ``records`` or ``sweep``.
        name: its column of runs' names in the store.
        columns: of its rows, those that a record determines.
    """

    def __init__(self, table: pd.DataFrame, name: str, columns: tuple[str, ...]) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        if {name, *columns} <= set(table):
            found = table[[name, *columns]].astype(object)
            rows = found.where(found.notna(), None).to_dict("records")
            self._rows = {row.pop(name): row for row in rows if row["file_digest"]}

    def row(self, store: Store, spec: RunSpec) -> dict[str, Any] | None:
        """A run's row, if the same code would make it from the same bytes; else None."""
        row = self._rows.get(spec.run)
        if row is None or any(row[name] != value for name, value in _made_by(spec).items()):
            return None
        try:
            return row if store.intact(spec.run) == row["file_digest"] else None
        except UserError:  # reading the record tells what is wrong
            return None


def collect(
    plan: Plan, results: Path, last: tuple[pd.DataFrame, pd.DataFrame] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The records and the history of a study's runs; ``last`` are those of the last collecting.

    Returns:
        Records, one row a run in the study's order, and history, one row a run and epoch. In records,
        ``accuracy`` is what enters a mean: test accuracy after the last epoch, chance (1 / classes) for a
        diverged run, and missing for a run that failed or is not there. ``setting`` is the recipe of its `Setting`,
        ``baseline`` whether others are compared with it, ``numbers_digest`` a digest of its status and numbers alone.
    """
    store = Store(results)
    known = Last(last[0], "run", _OF_RECORD) if last else None
    rows, epochs, kept = [], [], []
    found = comparisons.by_cell(plan)
    for cell in plan.cells:
        for spec in cell.specs:
            row = known.row(store, spec) if known else None
            if row is None:
                record, problem, file_digest = _examined(store, spec)
                row = _row(store, spec, record, problem, file_digest)
                epochs += [{"run": spec.run} | epoch for epoch in record.numbers.get("history", [])] if record else []
            else:
                kept.append(spec.run)
            place = {"setting": found[cell.id].recipe, "baseline": is_baseline(plan.study, cell)}
            rows.append(_key(cell, spec) | place | {name: row[name] for name in _OF_RECORD})
    records = _typed(pd.DataFrame(rows))
    history = pd.DataFrame(epochs, columns=["run", *HISTORY_COLUMNS])
    if last is not None and kept:
        old = last[1].loc[last[1]["run"].isin(kept), list(history)]
        history = pd.concat([old, history.astype(old.dtypes)]) if len(history) else old
    # A study in which nothing was validated yet must still give columns of numbers.
    history = history.astype({"epoch": "int64", "step": "int64"} | dict.fromkeys(HISTORY_COLUMNS[2:], "float64"))
    return records, records[list(_HISTORY_KEY)].merge(history, on="run")


def collect_sweep(plan: Plan, results: Path, records: pd.DataFrame, last: pd.DataFrame | None = None) -> pd.DataFrame:
    """The runs of the sweeps that chose learning rates, one row a cell, learning rate and seed.

    ``records`` are those of `collect`, which say what was chosen; ``last`` is the table of the last collecting.

    ``accuracy`` is what the choice goes by: validation accuracy after the last epoch, chance for a diverged run,
    missing for one that failed or is not there. ``train_loss`` is that of the last epoch. ``chosen`` says whether
    the cell's runs train with this rate; it is missing where none of them is there yet.
    """
    store = Store(results)
    known = Last(last, "sweep_run", _OF_SWEEP) if last is not None else None
    rows = []
    chosen = {cell: set(rates.dropna()) for cell, rates in records.groupby("cell")["learning_rate"]}
    for cell in plan.cells:
        rates = chosen[cell.id]
        for spec in cell.specs[0].candidates():
            found = known.row(store, spec) if known else None
            if found is None:
                found = _sweep_row(store, spec, *_examined(store, spec))
            rate = spec.recipe.learning_rate
            row = {"run": cell.specs[0].run, "sweep_run": spec.run, "dataset": cell.dataset}
            row |= {"architecture": cell.architecture, "method": cell.label, "seed": spec.seed, "learning_rate": rate}
            row |= {"depth": models.architecture(spec.architecture).depth, "chosen": rate in rates if rates else None}
            row |= {"threads": spec.threads, "processes": spec.processes}
            rows.append(row | found)
    columns = ["run", "sweep_run", "dataset", "architecture", "depth", "method", "seed", "learning_rate", "chosen"]
    table = pd.DataFrame(rows, columns=[*columns, "threads", "processes", *_OF_SWEEP])
    return table.astype(dict.fromkeys(("learning_rate", "accuracy", "train_loss", *_SPENT), "float64"))


def write(plan: Plan, results: Path) -> pd.DataFrame:
    """Write ``records.parquet``, ``history.parquet`` and ``sweep.parquet`` of a study; return the records."""
    try:
        *last, swept = read(plan.name, results)
    except UserError:  # there are none, or they are damaged
        last, swept = None, None
    records, history = collect(plan, results, last)
    save(plan.name, results, records, history, collect_sweep(plan, results, records, swept))
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


def lacking(tables: Iterable[pd.DataFrame]) -> list[str]:
    """The columns that tables of records, history and sweeps lack where an earlier version wrote them."""
    needed = (_OF_RECORD, HISTORY_COLUMNS, _OF_SWEEP)
    return [name for table, names in zip(tables, needed, strict=True) for name in names if name not in table]


def readable(store: Store, spec: RunSpec) -> tuple[RunRecord | None, str | None]:
    """A run's record if it may be used, and else None and why not."""
    return _examined(store, spec)[:2]


def _examined(store: Store, spec: RunSpec) -> tuple[RunRecord | None, str | None, str | None]:
    """The same, with the checksum of the record's file."""
    try:
        found = store.received_file(spec.run)
    except UserError as error:
        return None, f"damaged: {error}", None
    if found is None:
        return None, "not trained yet", None
    record, file_digest = found
    if record.identity.get("spec") != spec.spec_digest:
        return None, "damaged: the record is of another run", None
    if (why := stale(store, spec, record.identity["code"], record.identity["stack"])) is not None:
        return None, f"{why}; train it again, check out its commit, or adopt it (rdp adopt)", None
    return record, None, file_digest


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
        "processes": spec.processes,
        "chance": data.info(spec.dataset).chance,
    }


def _row(
    store: Store, spec: RunSpec, record: RunRecord | None, problem: str | None, file_digest: str | None
) -> dict[str, Any]:
    """What a record tells, by `_OF_RECORD`."""
    numbers = record.numbers if record else {}
    telemetry = record.telemetry if record else {}
    stack = telemetry.get("stack", {})
    found = numbers | _last_epoch(record) | telemetry | _energy(telemetry)
    row = {name: found.get(name) for name in (*_MEASURED, *_TOLD)}
    row |= _standing(record, problem) | _made_from(store, spec, record, file_digest)
    row["accuracy"] = data.info(spec.dataset).chance if row["status"] == "diverged" else row["test_accuracy"]
    row["device"], row["device_type"] = stack.get("device"), telemetry.get("device")
    row["stack"] = json.dumps(telemetry.get("versions", {}) | stack, sort_keys=True)
    for name in ("data", "stack"):
        row[f"{name}_digest"] = record.identity[name] if record else None
    row["digest"] = record.digest if record else None
    row["numbers_digest"] = digest.of([record.status, numbers]) if record else None
    return row


def _sweep_row(
    store: Store, spec: RunSpec, record: RunRecord | None, problem: str | None, file_digest: str | None
) -> dict[str, Any]:
    """What the record of a sweep's run tells, by `_OF_SWEEP`."""
    last = _last_epoch(record)
    row = _standing(record, problem) | _made_from(store, spec, record, file_digest)
    diverged = row["status"] == "diverged"
    row["accuracy"] = data.info(spec.dataset).chance if diverged else last.get("validation_accuracy")
    row["train_loss"] = last.get("train_loss")
    telemetry = record.telemetry if record else {}
    row |= {name: (telemetry | _energy(telemetry)).get(name) for name in ("started", *_SPENT)}
    return row | {"device_type": telemetry.get("device")}


def _energy(telemetry: dict[str, Any]) -> dict[str, float | None]:
    """What the machine told of a run; nothing in records of before it was asked."""
    return dict.fromkeys(energy.KINDS) | (telemetry.get("energy") or {})


def _last_epoch(record: RunRecord | None) -> dict[str, Any]:
    history = record.numbers.get("history") if record else None
    last: dict[str, Any] = history[-1] if history else {}
    return {name: last.get(name) for name in HISTORY_COLUMNS[2:]}


def _standing(record: RunRecord | None, problem: str | None) -> dict[str, Any]:
    return {"status": record.status if record else "missing", "reason": record.reason if record else problem}


def _made_from(store: Store, spec: RunSpec, record: RunRecord | None, file_digest: str | None) -> dict[str, Any]:
    """What a row follows from; nothing where there is no record, so that the next collecting looks again. It also does
    where other code made the record: an adoption may come or go."""
    if record is None or file_digest is None:
        return dict.fromkeys(_FROM) | {"adopted": False}
    made = record.identity["code"], record.identity["stack"]
    known = {"code_digest": made[0], "file_digest": file_digest, "adopted": adopted(store, spec, *made)}
    return _made_by(spec) | known


def _made_by(spec: RunSpec) -> dict[str, Any]:
    collector = fingerprint.package_digest()
    return {"spec_digest": spec.spec_digest, "code_digest": fingerprint.code_of(spec), "collector": collector}


def _typed(records: pd.DataFrame) -> pd.DataFrame:
    """The same columns have the same types, whatever is missing, and whatever was read back from a table."""
    numbers: dict[str, Any] = dict.fromkeys(("accuracy", *_MEASURED), "float64")
    numbers |= {name: "int64" for name in _WHOLE if records[name].notna().all()}
    return records.astype(numbers)
