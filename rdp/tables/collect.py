"""Tables of a study's records: one row per run, per run and epoch, and per run of a sweep.

The tables hold every run of the study, including failed and missing ones. The row of a run without a usable record says
why. Rows of the previous tables are reused where the record's file has the same checksum, since parsing records takes
most of the time.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from rdp import data, models
from rdp.errors import UserError
from rdp.spec import Choice, RunSpec
from rdp.store import RunRecord, Store, fingerprint
from rdp.store.record import Epoch, Numbers, Status, column_values, columns
from rdp.study import Cell, Plan, comparisons, is_baseline
from rdp.study.states import adopted, stale
from rdp.utils import digest, sealed

RowStatus = Literal[Status, "missing"]
ROW_STATUSES: tuple[RowStatus, ...] = get_args(RowStatus)
TABLES = ("records", "history", "sweep")
HISTORY_COLUMNS = tuple(Epoch.model_fields)
_LAST_EPOCH = HISTORY_COLUMNS[2:]  # without the epoch and its step
NUMBERS = (*(name for name, _, _ in columns(Numbers)), *_LAST_EPOCH)
_DTYPES = {name: dtype for name, _, dtype in columns()} | dict.fromkeys(("accuracy", *_LAST_EPOCH), "float64")
_SWEEP_DTYPES = {name: dtype for name, column, dtype in columns() if column.sweep}
_SOURCES = ("spec_digest", "code_digest", "file_digest", "collector")  # a row is reused while these are the same
_RECORD_COLUMNS = (
    *("status", "reason", *_DTYPES, "device", "device_type", "stack"),
    *("data_digest", "stack_digest", "digest", "numbers_digest", "adopted", *_SOURCES),
)
_SWEEP_COLUMNS = ("status", "reason", "train_loss", "accuracy", *_SWEEP_DTYPES, "device_type", "adopted", *_SOURCES)
COMPARED = tuple(Choice.model_fields)  # by a sweep
_HISTORY_KEY = ("run", "dataset", "architecture", "method", "seed")


Rows = dict[str, dict[str, Any]]  # by run


def _previous_rows(table: pd.DataFrame | None, key: str, columns: tuple[str, ...]) -> Rows:
    """The ``columns`` of a table that was written earlier, by the name of the run in its column ``key``."""
    if table is None or not {key, *columns} <= set(table):
        return {}
    values = table[[key, *columns]].astype(object)
    rows = values.where(values.notna(), None).to_dict("records")
    return {str(row.pop(key)): {str(name): row[name] for name in row} for row in rows if row["file_digest"]}


def collect(
    plan: Plan, results: Path, previous: tuple[pd.DataFrame, pd.DataFrame] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The records and the history of a study's runs.

    Returns:
        Records, one row per run in the study's order, and history, one row per run and epoch. In records, ``accuracy``
        is the value that means are taken of: test accuracy after the last epoch, chance (1 / classes) for a diverged
        run, and missing for a failed or missing run. ``setting`` is the recipe of its `Setting`, ``baseline`` whether
        other methods are compared with it, and ``numbers_digest`` a digest of its status and numbers.
    """
    store = Store(results)
    previous_rows = _previous_rows(previous[0] if previous else None, "run", _RECORD_COLUMNS)
    rows, epochs, reused = [], [], []
    settings = comparisons.by_cell(plan)
    for cell in plan.cells:
        comparison = {"setting": settings[cell.id].recipe, "baseline": is_baseline(plan.study, cell)}
        for spec in cell.specs:
            values, history = _values(store, spec, previous_rows)
            if history is None:
                reused.append(spec.run)
            epochs += [{"run": spec.run} | dict(epoch) for epoch in history or ()]
            rows.append(_key(cell, spec) | comparison | values)
    records = _typed(pd.DataFrame(rows), _DTYPES)
    table = pd.DataFrame(epochs, columns=["run", *HISTORY_COLUMNS])
    if previous is not None and reused:
        old = previous[1].loc[previous[1]["run"].isin(reused), list(table)]
        table = pd.concat([old, table.astype(old.dtypes)]) if len(table) else old
    # A column without any value must still be one of numbers.
    table = table.astype({"epoch": "int64", "step": "int64"} | dict.fromkeys(_LAST_EPOCH, "float64"))
    return records, records[list(_HISTORY_KEY)].merge(table, on="run")


def collect_sweep(
    plan: Plan, results: Path, records: pd.DataFrame, previous: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The runs of the sweeps, one row per cell, learning rate, norm gain and seed.

    Returns:
        A table in which ``accuracy`` is the value that the choice is made by: validation accuracy after the last
        epoch, chance for a diverged run, and missing for a failed or missing run. ``train_loss`` is that of the last
        epoch. ``chosen`` says whether the cell's runs train with these values; it is missing while none is done.
    """
    store, rows = Store(results), []
    previous_rows = _previous_rows(previous, "sweep_run", _SWEEP_COLUMNS)
    runs = dict(list(records.groupby("cell")))
    for cell in plan.cells:
        tuning = cell.specs[0].tuning
        chosen = _distinct(runs[cell.id], [*tuning.swept]) if tuning else set()
        for spec in cell.specs[0].candidates():
            row = _key(cell, spec) | _values(store, spec, previous_rows)[0]
            row |= {"run": cell.specs[0].run, "sweep_run": spec.run}
            row |= {name: getattr(spec.recipe, name) for name in COMPARED}
            values = tuple(row[name] for name in tuning.swept) if tuning else ()
            rows.append(row | {"chosen": values in chosen if chosen else None})
    names = ["run", "sweep_run", "dataset", "architecture", "depth", "method", "seed", *COMPARED, "chosen"]
    table = pd.DataFrame(rows, columns=[*names, "threads", "processes", *_SWEEP_COLUMNS])
    return _typed(table, _SWEEP_DTYPES | dict.fromkeys((*COMPARED, "accuracy", "train_loss"), "float64"))


def _distinct(table: pd.DataFrame, columns: list[str]) -> set[tuple[float, ...]]:
    """The distinct rows of these columns, without those that lack a value."""
    return set(table[columns].dropna().itertuples(index=False, name=None))


def write(plan: Plan, results: Path) -> pd.DataFrame:
    """Write ``records.parquet``, ``history.parquet`` and ``sweep.parquet`` of a study; return the records."""
    previous: tuple[pd.DataFrame, pd.DataFrame] | None
    previous_sweep: pd.DataFrame | None
    try:
        *previous, previous_sweep = read(plan.name, results)  # type: ignore[assignment] # two of three
    except UserError:  # absent or damaged
        previous, previous_sweep = None, None
    records, history = collect(plan, results, previous)
    save(plan.name, results, records, history, collect_sweep(plan, results, records, previous_sweep))
    return records


def save(study: str, results: Path, *tables: pd.DataFrame) -> None:
    """Write the tables of a study, in the order of `TABLES`. The seal of each names the one before it."""
    of = study
    for name, table in zip(TABLES, tables, strict=True):
        of = sealed.write_table(results / study / f"{name}.parquet", table, of)


def read(study: str, results: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The tables of records, history and sweeps, as `write` saved them together.

    Raises:
        UserError: a table is absent or damaged, or is not of the same call of `write` as the others.
    """
    of, tables = study, []
    for name in TABLES:
        path = results / study / f"{name}.parquet"
        table, of = sealed.read_table(path, of, f"run: rdp collect {study}")
        tables.append(table)
    return tables[0], tables[1], tables[2]


def missing_columns(tables: Iterable[pd.DataFrame]) -> list[str]:
    """The columns that this version of rdp writes and that tables of records, history and sweeps do not have."""
    expected = (_RECORD_COLUMNS, HISTORY_COLUMNS, _SWEEP_COLUMNS)
    return [name for table, names in zip(tables, expected, strict=True) for name in names if name not in table]


def usable_record(store: Store, spec: RunSpec) -> tuple[RunRecord | None, str | None]:
    """A run's record, or None and the reason why it cannot be used."""
    return _examine(store, spec)[:2]


def _examine(store: Store, spec: RunSpec) -> tuple[RunRecord | None, str | None, str | None]:
    """A run's record and None, or None and the reason why it cannot be used; and the checksum of the record's file."""
    try:
        finished = store.read_with_checksum(spec.run)
    except UserError as error:
        return None, f"damaged: {error}", None
    if finished is None:
        return None, "not trained yet", None
    record, checksum = finished
    if record.identity.spec != spec.spec_digest:
        return None, "damaged: the record is of another run", None
    if (reason := stale(store, spec, record.identity.code, record.identity.stack)) is not None:
        return None, f"{reason}; train it again, check out its commit, or adopt it (rdp adopt)", None
    return record, None, checksum


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


def _values(store: Store, spec: RunSpec, previous: Rows) -> tuple[dict[str, Any], list[Epoch] | None]:
    """The values of `_RECORD_COLUMNS` for a run and its history; or its previous row and None."""
    current = {"spec_digest": spec.spec_digest, "code_digest": fingerprint.code_of(spec)}
    current["collector"] = fingerprint.package_digest()
    row = previous.get(spec.run)
    if row is not None and all(row[name] == value for name, value in current.items()):
        with suppress(UserError):  # reading the record gives the reason
            if store.record_checksum(spec.run) == row["file_digest"]:
                return row, None
    record, problem, checksum = _examine(store, spec)
    row = dict.fromkeys(_RECORD_COLUMNS) | {"stack": "{}", "adopted": False}
    if record is None:  # its sources stay empty, so that the next call looks again
        return row | {"status": "missing", "reason": problem}, []
    identity, telemetry, numbers = record.identity, record.telemetry, record.numbers
    last = {name: getattr(numbers.history[-1], name) for name in _LAST_EPOCH} if numbers.history else {}
    accuracy = last.get("validation_accuracy") if spec.sweep else numbers.test_accuracy
    return row | dict(column_values(record)) | last | current | {
        "status": record.status,
        "reason": record.reason,
        "accuracy": data.info(spec.dataset).chance if record.status == "diverged" else accuracy,
        "device": telemetry.stack.get("device"),
        "device_type": telemetry.device,
        "stack": json.dumps(telemetry.versions | telemetry.stack, sort_keys=True),
        "data_digest": identity.data,
        "stack_digest": identity.stack,
        "digest": record.digest,
        "numbers_digest": digest.of([record.status, numbers.model_dump(mode="json", exclude_none=True)]),
        # The record's own: a row made by other code is not reused, since its adoption may come or go.
        "code_digest": identity.code,
        "file_digest": checksum,
        "adopted": adopted(store, spec, identity.code, identity.stack),
    }, numbers.history


def _typed(table: pd.DataFrame, dtypes: dict[str, str]) -> pd.DataFrame:
    """The table with the given types; integers are floats in a column with missing values."""
    numeric = {name: dtype for name, dtype in dtypes.items() if dtype != "object"}
    complete = {name for name in numeric if table[name].notna().all()}
    return table.astype({name: dtype if name in complete else "float64" for name, dtype in numeric.items()})
