"""Files in the store that killed processes leave behind."""

from collections.abc import Iterator
from pathlib import Path

from rdp.utils.files import PARTIAL_PATTERNS, partial_pattern


def of_run(folder: Path) -> Iterator[Path]:
    """In the directory of a finished run: checkpoints, its progress file, partly written files."""
    for pattern in ("progress.json", "checkpoint-*", *PARTIAL_PATTERNS):
        yield from folder.glob(pattern)


def of_receipt(receipt: Path) -> Iterator[Path]:
    """Partly written copies of a run's receipt."""
    yield from receipt.parent.glob(partial_pattern(receipt.name))


def of_cell(folder: Path) -> Iterator[Path]:
    """Partly written files in the directory of a cell."""
    for pattern in PARTIAL_PATTERNS:
        yield from folder.glob(pattern)
