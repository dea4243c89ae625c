"""Receipts: small files that say which runs are done, for Snakemake and for plans."""

from pathlib import Path
from typing import Final, Literal

from rdp.errors import UserError
from rdp.store.record import Part, RunRecord, Status
from rdp.utils import digest, files
from rdp.utils.validation import validate

FORMAT: Final = 3


class Used(Part):
    """What a run used, from its record's telemetry."""

    seconds: float | None
    process_peak_bytes: int | None
    device: str | None
    host: str | None
    ended: str | None


class Receipt(Part):
    """What plans and status views need of a finished run, without its record, which is a hundred times as large."""

    format: Literal[3] = FORMAT
    run: str  # the run's name in the store
    status: Status
    reason: str | None
    digest: str  # of its record
    record: str  # SHA-256 of the record's file
    code: str  # digest of the run's identity
    stack: str  # digest of the run's identity
    used: Used


def of_record(run: str, record: RunRecord, checksum: str) -> Receipt:
    """The receipt of a run, from its record and the checksum of the record's file."""
    return Receipt(
        run=run,
        status=record.status,
        reason=record.reason,
        digest=record.digest,
        record=checksum,
        code=record.identity.code,
        stack=record.identity.stack,
        used=Used(**{name: getattr(record.telemetry, name) for name in Used.model_fields}),
    )


def write(path: Path, receipt: Receipt) -> None:
    """Write a receipt."""
    files.write_json(path, digest.seal(receipt.model_dump(mode="json")))


def read(path: Path, run: str) -> Receipt | None:
    """The receipt of a run, verified; None where the run is not done.

    Raises:
        UserError: it is damaged, a folder, of another run, or of another format.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:  # no permission, or below a file
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    content = files.read_json(path)
    files.check_format(path, content, "receipt", FORMAT, "Train the run again.")
    sealed = digest.unseal(content)
    try:
        receipt = validate(Receipt, content, "receipt")
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}") from None
    if not sealed or receipt.run != run:
        raise UserError(f"{path}: damaged: not the receipt of {run}")
    return receipt
