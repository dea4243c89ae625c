"""The origin of recorded results: results unpacked from an archive into a results directory of their own.

Recorded results have no weights, and of each dataset only the labels of the test split. Tables, figures and reports are
made from them as from others, but nothing is trained or measured on them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from rdp.errors import UserError
from rdp.utils import digest, sealed

FILE = "recorded.json"
_SEALED_AS = "recorded"
_TYPES = {"study": str, "archive_seal": str, "labels": dict}


def is_recorded(results: Path) -> bool:
    """Whether a results directory holds recorded results."""
    return (results / FILE).exists()


def write(results: Path, content: dict[str, Any], *, complete: bool) -> Path:
    """Write the origin of the results in a directory and return the file's path.

    ``content`` is the archive's manifest with its ``archive_seal``, and the digests of ``labels`` by dataset.
    """
    sealed.write_json(results / FILE, content | {"whole": complete}, _SEALED_AS)
    return results / FILE


def read(results: Path) -> dict[str, Any]:
    """The origin of recorded results, as given to `write`.

    Raises:
        UserError: the file is absent or damaged, or the archive is not completely unpacked.
    """
    remedy = "unpack the archive again: rdp unpack STUDY --recorded"
    content = sealed.read_json(results / FILE, _SEALED_AS, remedy)
    if not content.pop("whole", None):
        raise UserError(f"{results / FILE}: the archive is not completely unpacked; {remedy}")
    if any(not isinstance(content.get(name), kind) for name, kind in _TYPES.items()):
        raise UserError(f"{results / FILE}: damaged: it does not state what was unpacked; {remedy}")
    return content


def labels_path(dataset: str, results: Path) -> Path:
    """Path of the labels of a dataset's test split in recorded results."""
    return results / "data" / dataset / "labels.safetensors"


def labels(dataset: str, results: Path) -> np.ndarray:
    """The int64 labels of a dataset's test split, shape (m,), verified.

    Raises:
        UserError: they are absent or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path, content = labels_path(dataset, results), read(results)
    remedy = f"run: rdp unpack {content['study']} --recorded"
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged: unreadable ({error}); {remedy}") from None
    if digest.of_arrays(arrays) != content["labels"].get(dataset):
        raise UserError(f"{path}: damaged: not the labels of the archive; {remedy}")
    return arrays["test"].astype(np.int64)


def refuse(results: Path) -> None:
    """Raise `UserError` if a directory holds recorded results; called before training and measuring."""
    if is_recorded(results):
        raise UserError(f"{results}: holds recorded results ({FILE}); train and measure in another directory")
