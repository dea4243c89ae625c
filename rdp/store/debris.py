"""The names of what killed processes leave behind in the store beside what is whole."""

from collections.abc import Iterator
from pathlib import Path

from rdp.utils.files import PARTIAL_PATTERNS, partial_pattern


def of_run(folder: Path) -> Iterator[Path]:
    """In the directory of a run that is done: checkpoints, what told of its progress, halves of files."""
    for pattern in ("progress.json", "checkpoint-*", *PARTIAL_PATTERNS):
        yield from folder.glob(pattern)


def of_receipt(receipt: Path) -> Iterator[Path]:
    """Halves of a run's receipt."""
    yield from receipt.parent.glob(partial_pattern(receipt.name))


def of_cell(folder: Path) -> Iterator[Path]:
    """Halves of files beside a cell's runs."""
    for pattern in PARTIAL_PATTERNS:
        yield from folder.glob(pattern)
