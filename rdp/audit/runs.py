"""Check stored runs: records, receipts, predictions, weights, and the choices of sweeps."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rdp.audit.findings import Check
from rdp.data import prepared
from rdp.errors import UserError
from rdp.jobs import tuning
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store, origin, receipts
from rdp.store.record import PREDICTIONS, WEIGHTS, WEIGHTS_OMITTED, Numbers, accuracy_fits
from rdp.study import Plan
from rdp.utils import digest, files
from rdp.utils.compare import describe, differences
from rdp.utils.humanize import count


class StoredRun(NamedTuple):
    """A run of a study with its record, or with the reason why the record cannot be used."""

    spec: RunSpec
    record: RunRecord | None
    problem: str | None


StoredRuns = dict[str, StoredRun]


def read(plan: Plan, results: Path) -> StoredRuns:
    """Return the runs of a study and of its sweeps by name."""
    store, runs = Store(results), {}
    for spec in (*plan.sweep.values(), *plan.specs):
        try:
            runs[spec.run] = StoredRun(spec, store.read_finished(spec.run), None)
        except UserError as error:
            runs[spec.run] = StoredRun(spec, None, str(error))
    return runs


def check_records(plan: Plan, results: Path, runs: StoredRuns, labels: dict[str, np.ndarray]) -> Check:
    """Check every record against its run, its data, its receipt and the files beside it.

    A record that lacks what later checks need is removed from ``runs``. ``labels`` are those of the test splits by
    dataset, see `rdp.audit.inputs.check_data`.
    """
    statement = "Every record is intact, belongs to its run and data, and its predictions give its accuracy."
    check = Check("records", statement, "run")
    store, digests = Store(results), _data_digests(plan, results)
    for run, (spec, record, problem) in runs.items():
        check.checked += record is not None or problem is not None
        if problem is not None:
            check.find_lines([problem])
        if record is None:
            continue
        path = store.folder(run) / "record.json"
        stated = _specification(record)
        if stated is None or {stated.spec_digest, record.identity.spec} != {spec.spec_digest}:
            check.find(path, f"is the record of another run{f', {stated.run}' if stated else ''}, stored as {run}")
            continue
        if digests.get(spec.dataset) not in (None, record.identity.data):
            check.find(path, f"was trained on other data than the prepared ones, {digests[spec.dataset][:12]}")
        _check_receipt(check, store, run, record)
        if _check_completeness(check, path, spec, record):
            _check_files(check, store, run, record, labels.get(spec.dataset), weights=not origin.is_recorded(results))
        else:
            runs[run] = StoredRun(spec, None, "the record is incomplete")
    for title, status in (("not trained", None), ("failed", "failed")):
        names = [
            run for run, (_, r, problem) in runs.items() if problem is None and (r.status if r else None) == status
        ]
        if names:
            check.notes.append(f"{count(len(names), 'run')} {title}, as the report says; first {names[0]}")
    return check


def _specification(record: RunRecord) -> RunSpec | None:
    try:
        return RunSpec(**record.spec)
    except (TypeError, ValueError):
        return None


def _data_digests(plan: Plan, results: Path) -> dict[str, str]:
    digests = {}
    for name in dict.fromkeys(cell.dataset for cell in plan.cells):
        try:
            digests[name] = str(files.read_json(prepared.folder(name, results) / "manifest.json")["digest"])
        except (UserError, KeyError, TypeError):  # reported by the check of data
            continue
    return digests


def _check_completeness(check: Check, path: Path, spec: RunSpec, record: RunRecord) -> bool:
    """Return whether a record has the numbers and files that a run of its status leaves."""
    numbers = record.numbers
    if record.status == "failed":
        if numbers != Numbers():
            check.find(path, "says failed, but has numbers")
        return True
    if (record.status == "diverged") != (numbers.diverged_step is not None):
        check.find(path, f"says {record.status}, but its diverged step is {numbers.diverged_step}")
    required = [*spec.tuning.swept] if spec.tuning else ["learning_rate"]
    if record.status == "completed":
        required += ["history", "weights"] if spec.sweep else ["test_accuracy", "history", "weights"]
    absent = [name for name in required if getattr(numbers, name) in (None, [])]
    if record.status == "completed" and not spec.sweep:
        absent += [name for name in (PREDICTIONS, WEIGHTS) if name not in record.files]
    if absent:
        check.find(path, f"says {record.status}, but lacks {', '.join(absent)}")
    return not absent


def _check_receipt(check: Check, store: Store, run: str, record: RunRecord) -> None:
    """Compare a receipt, which `rdp plan` and `rdp status` read, with its record."""
    if receipt := store.read_receipt(run):
        contents = (receipt.model_dump(), receipts.of_record(run, record, receipt.record).model_dump())
        check.find(store.receipt(run), *describe(differences(*contents), "the record gives"))


def _check_files(
    check: Check, store: Store, run: str, record: RunRecord, labels: np.ndarray | None, *, weights: bool
) -> None:
    """Compare a record's files with their checksums, its accuracy with its predictions, and each tensor's checksum.

    Recorded results hold predictions but no ``weights``.
    """
    folder = store.folder(run)
    for name, expected in record.files.items():
        path = folder / name
        if not weights and name != PREDICTIONS:
            continue
        if name == WEIGHTS and not path.exists() and (folder / WEIGHTS_OMITTED).exists():
            continue
        if not path.is_file():
            check.find(path, "no such file, but the record names it")
        elif digest.of_file(path) != expected:
            check.find(path, "damaged: its checksum is not the one in the record")
        elif name == PREDICTIONS and labels is not None:
            arrays = check.attempt(path, store.arrays, run, record, "predictions")
            fits = arrays and check.attempt(path, _accuracy_fits, record, arrays, labels)
            if fits is False:
                accuracy = record.numbers.test_accuracy
                check.find(folder / "record.json", f"its predictions do not give its accuracy, {accuracy}")
        elif name == WEIGHTS:
            arrays = check.attempt(path, store.arrays, run, record, "weights")
            if arrays is not None and _checksums(arrays) != record.numbers.weights:
                check.find(path, "its tensors do not have the checksums in the record")


def _accuracy_fits(record: RunRecord, predictions: dict[str, np.ndarray], labels: np.ndarray) -> bool:
    return accuracy_fits(record, predictions["test"], labels)


def _checksums(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Return the checksum of each tensor, as the trainer computes it."""
    return {name: hashlib.sha256(array.tobytes()).hexdigest()[:16] for name, array in arrays.items()}


def check_sweeps(plan: Plan, results: Path, runs: StoredRuns, scratch: Path) -> Check:
    """Check that the choices in ``tuned.json`` and in records follow from the records of the sweeps.

    The recomputed choices are written to ``scratch``, an empty results directory.
    """
    check = Check("sweeps", "Every choice of a sweep follows from the sweep's records.", "run")
    compared: set[Path] = set()
    for spec in plan.specs:
        record = runs[spec.run].record
        if spec.tuning is None or record is None or record.status == "failed":
            continue
        check.checked += 1
        candidates = [runs[candidate.run].record for candidate in spec.candidates()]
        swept = [candidate for candidate in candidates if candidate is not None]
        path = Store(results).folder(spec.run) / "record.json"
        if len(swept) < len(candidates):
            check.find(path, "records of the sweep that chose for it are missing")
            continue
        if check.attempt(path, tuning.choose, spec, swept) is None:
            continue
        if reason := tuning.disagreement(spec, record, swept):
            check.find(path, reason)
        tuned = path.parents[1] / "tuned.json"
        if tuned not in compared and tuned.exists():  # a run that sweeps by itself writes none
            compared.add(tuned)
            stored = check.attempt(tuned, files.read_json, tuned)
            expected = files.read_json(tuning.write(spec, swept, scratch))
            check.find(tuned, *describe(differences(stored or expected, expected), "the sweep's records give"))
    return check
