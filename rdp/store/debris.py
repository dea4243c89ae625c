"""The names of what killed processes leave behind in the store beside what is whole."""

from collections.abc import Iterator
from pathlib import Path

from rdp.utils.files import HALVES, halves_of


def of_run(folder: Path) -> Iterator[Path]:
    """In the directory of a run that is done: checkpoints, what told of its progress, halves of files."""
    for pattern in ("progress.json", "checkpoint-*", *HALVES):
        yield from folder.glob(pattern)


def of_receipt(receipt: Path) -> Iterator[Path]:
    """Halves of a run's receipt."""
    yield from receipt.parent.glob(halves_of(receipt.name))


def of_cell(folder: Path) -> Iterator[Path]:
    """Halves of files beside a cell's runs."""
    for pattern in HALVES:
        yield from folder.glob(pattern)
