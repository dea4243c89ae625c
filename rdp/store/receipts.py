"""Receipts: what Snakemake waits for, and what plans read in place of records, which are a hundred times as large."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdp.errors import UserError
from rdp.utils import digest, files
from rdp.utils.schemas import RECEIPT, USED

if TYPE_CHECKING:
    from rdp.store.record import RunRecord

STATUSES = frozenset({"completed", "diverged", "failed"})


def content(run: str, record: "RunRecord", checksum: str) -> dict[str, Any]:
    """What a receipt says of a run.

    Args:
        run: the run's name in the store.
        record: its record.
        checksum: SHA-256 of the record's file.
    """
    return {
        "schema": RECEIPT.schema,
        "run": run,
        "status": record.status,
        "reason": record.reason,
        "digest": record.digest,
        "record": checksum,
        "code": record.identity.get("code"),
        "stack": record.identity.get("stack"),
        "used": {name: record.telemetry.get(name) for name in USED},
    }


def write(path: Path, run: str, record: "RunRecord", checksum: str) -> None:
    """Say that a run is done, and which record is meant (see `content`)."""
    files.write_json(path, digest.seal(content(run, record, checksum)))


def read(path: Path, run: str, record: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """A run's receipt, verified, in its present form; None where the run is not done.

    Args:
        path: of the receipt.
        run: the run's name in the store.
        record: reads the run's record, of which the first receipts told nothing.

    Raises:
        UserError: it is damaged, a folder, of another run, or of a later version.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:  # of somebody else, or below a file
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    found = files.read_json(path)
    try:
        schema = RECEIPT.check(path, found)
        fits = digest.unseal(found)
        whole = fits or (fits is None and schema == 0)
        whole &= found["run"] == run and found["status"] in STATUSES
    except (AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{path}: damaged: not the receipt of {run}")
    return RECEIPT.present(path, found, record)
