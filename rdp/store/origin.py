"""Recorded results: those of an archive, unpacked into a results directory of their own, beside a mark that says so.

What is made from records is made from these by the same code. They have no weights, and of the datasets the labels of
the test split alone; nothing is trained or measured on them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from rdp.errors import UserError
from rdp.utils import digest, sealed

MARK = "recorded.json"
_OF = "recorded"
_TOLD = {"study": str, "archive_seal": str, "labels": dict}


def holds(results: Path) -> bool:
    """Whether a results directory holds recorded results."""
    return (results / MARK).exists()


def mark(results: Path, told: dict[str, Any], *, whole: bool) -> Path:
    """Say of a results directory that what it holds is recorded, where it came from, and whether all of it is there."""
    sealed.write_json(results / MARK, told | {"whole": whole}, _OF)
    return results / MARK


def origin(results: Path) -> dict[str, Any]:
    """Where recorded results came from: the manifest of their archive, and digests of the labels (see `mark`).

    Raises:
        UserError: a mark that is damaged, or of an unpacking that was cut short.
    """
    remedy = "unpack the archive again: rdp unpack STUDY --recorded"
    told = sealed.read_json(results / MARK, _OF, remedy)
    if not told.pop("whole", None):
        raise UserError(f"{results / MARK}: not all of the archive was unpacked; {remedy}")
    if any(not isinstance(told.get(name), kind) for name, kind in _TOLD.items()):
        raise UserError(f"{results / MARK}: damaged: it does not say what was unpacked; {remedy}")
    return told


def labels_file(dataset: str, results: Path) -> Path:
    """Where the labels of a dataset's test split are kept beside recorded results."""
    return results / "data" / dataset / "labels.safetensors"


def labels(dataset: str, results: Path) -> np.ndarray:
    """The int64 labels of a dataset's test split, shape (m,), verified."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path, told = labels_file(dataset, results), origin(results)
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged: unreadable ({error}); run: rdp unpack {told['study']} --recorded") from None
    if digest.of_arrays(arrays) != told["labels"].get(dataset):
        raise UserError(f"{path}: damaged: not the labels of the archive; run: rdp unpack {told['study']} --recorded")
    return arrays["test"].astype(np.int64)


def refuse(results: Path) -> None:
    """Raise `UserError` where results are recorded, for what would train or measure there."""
    if holds(results):
        raise UserError(f"{results}: holds recorded results ({MARK}): nothing is trained or measured among them")
