"""Checks of what lies beside a run's record: its receipt, its predictions and its weights."""

import hashlib
from pathlib import Path

import numpy as np

from rdp.audit.findings import Check
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store, receipts
from rdp.store.record import PREDICTIONS, WEIGHTS, WEIGHTS_OMITTED, Numbers, accuracy_fits
from rdp.utils import digest


def check_numbers(check: Check, path: Path, spec: RunSpec, record: RunRecord) -> bool:
    """Whether a record has the numbers and names the files that a run of its status leaves."""
    numbers = record.numbers
    if record.status == "failed":
        if numbers != Numbers():
            check.find(path, "says failed, and has numbers, which a run that failed leaves none of")
        return True
    if (record.status == "diverged") != (numbers.diverged_step is not None):
        check.find(path, f"says {record.status}, and that it diverged at step {numbers.diverged_step}")
    needed = ["learning_rate"]
    if record.status == "completed":
        needed += ["history", "weights"] if spec.sweep else ["test_accuracy", "history", "weights"]
    absent = [name for name in needed if getattr(numbers, name) in (None, [])]
    if record.status == "completed" and not spec.sweep:
        absent += [name for name in (PREDICTIONS, WEIGHTS) if name not in record.files]
    if absent:
        check.find(path, f"says {record.status}, and nothing of {', '.join(absent)}")
    return not absent


def check_receipt(check: Check, store: Store, run: str, record: RunRecord) -> None:
    """Hold a receipt, which plans and `rdp status` believe, against the record that it is of."""
    receipt, path = store.read_receipt(run), store.receipt(run)
    if receipt is None:
        return
    for name, value in receipts.of_record(run, record, receipt.record):
        if getattr(receipt, name) != value:
            check.find(path, f"{name}: {getattr(receipt, name)}; the record gives {value}")


def check_files(
    check: Check,
    store: Store,
    run: str,
    record: RunRecord,
    labels: np.ndarray | None,
    *,
    whole: bool,
) -> None:
    """Hold a record's files against their checksums, its accuracy against predictions and labels, and its weights
    against the checksum of each tensor. Recorded results, which are not ``whole``, have no weights."""
    folder = store.folder(run)
    for name, expected in record.files.items():
        path = folder / name
        if not whole and name != PREDICTIONS:
            continue
        if name == WEIGHTS and not path.exists() and (folder / WEIGHTS_OMITTED).exists():
            continue
        if not path.is_file():
            check.find(path, "no such file, and the record was made with it")
        elif digest.of_file(path) != expected:
            check.find(path, "damaged: not the file its record was made with")
        elif name == PREDICTIONS and labels is not None:
            found = check.attempt(lambda: store.arrays(run, record, "predictions")["test"], path)
            if found is not None and not accuracy_fits(record, found, labels):
                stated = record.numbers.test_accuracy
                check.find(folder / "record.json", f"its predictions do not give its accuracy, {stated}")
        elif name == WEIGHTS:
            arrays = check.attempt(lambda: store.arrays(run, record, "weights"), path)
            if arrays is not None and _checksums(arrays) != record.numbers.weights:
                check.find(path, "its tensors are not those whose checksums the record holds")


def _checksums(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """As training takes them of the tensors that it ends with, see `rdp.training.trainer.Trainer.finish`."""
    return {name: hashlib.sha256(array.tobytes()).hexdigest()[:16] for name, array in arrays.items()}
