"""The run store: one directory for each run, named by the digest of its specification.

::

    results/store/<cell>/seed-0003.json          receipt: the output that Snakemake waits for
    results/store/<cell>/seed-0003/record.json   the record
                                   predictions.safetensors, weights.safetensors
    results/store/<cell>/attempts/seed-0003-…/   an unfinished attempt: progress, checkpoints
    results/store/<cell>/tuned.json              the learning rate and norm gain that a sweep chose
    results/store/adopted/                       adoptions, see `rdp.store.adoptions`

An attempt writes to its own directory, which is renamed into place when it is complete. Receipts are declared outputs,
which Snakemake deletes before it starts a job. Records and checkpoints are not declared, so a restarted job finds them.
All files are JSON or safetensors: reading a store executes no code.
"""

import os
import shutil
import socket
import time
import uuid
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from rdp.errors import UserError, os_errors
from rdp.store import receipts
from rdp.store.adoptions import Adoptions
from rdp.store.receipts import Receipt
from rdp.store.record import WEIGHTS, WEIGHTS_OMITTED
from rdp.store.record import Identity as Identity
from rdp.store.record import RunRecord as RunRecord
from rdp.store.record import read as read_record
from rdp.utils import digest, files


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as a time in UTC; timestamps sort as text."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Store:
    """The runs in one results directory."""

    def __init__(self, results: Path) -> None:
        self.root = results / "store"

    def folder(self, run: str) -> Path:
        """The directory of a run, whether it exists or not."""
        return self.root / run

    def receipt(self, run: str) -> Path:
        """Path of a run's receipt. The file exists if and only if the run is done."""
        return self.root / f"{run}.json"

    def attempts(self, run: str) -> list[Path]:
        """Directories of the run's attempts, including those of killed jobs."""
        cell, _, seed = run.partition("/")
        return sorted((self.root / cell / "attempts").glob(f"{seed}-*"))

    def new_attempt(self, run: str) -> Path:
        """Create the directory of a new attempt at a run.

        Raises:
            UserError: it cannot be created.
        """
        cell, _, seed = run.partition("/")
        name = f"{seed}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        path = self.root / cell / "attempts" / name
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{error.filename or self.root}: cannot write results ({error.strerror})") from None
        return path

    def commit(self, run: str, attempt: Path, record: RunRecord) -> RunRecord:
        """Turn a finished attempt into the run: add checksums of its files, write its record, rename it into place.

        If another attempt with the same identity finished first, its record is kept and returned.

        Checkpoints are deleted only after the record is in place, so after a kill at any moment the next attempt finds
        one or the other. A failed run keeps its checkpoints for the next attempt.

        Raises:
            UserError: the record cannot be written, or two attempts with one identity differ in a bit.
        """
        arrays = [path for path in sorted(attempt.glob("*.safetensors")) if not path.name.startswith("checkpoint-")]
        record = record.model_copy(update={"files": {path.name: digest.of_file(path) for path in arrays}})
        for path in arrays:
            files.fsync(path)
        files.write_json(attempt / "record.json", record.content())
        target = self.folder(run)
        earlier = self.find(run, record.identity)
        if earlier is not None:
            if earlier.bits != record.bits and record.status != "failed":
                raise UserError(
                    f"{target}: two attempts at one run differ ({earlier.digest[:12]}, {record.digest[:12]}): "
                    "this machine does not compute reproducibly"
                )
            shutil.rmtree(attempt, ignore_errors=True)
            return earlier
        with os_errors(target, "cannot be written"):
            if target.exists():  # a failed run, or one with another identity
                target.rename(attempt.with_name(f"{attempt.name}-replaced"))
            attempt.rename(target)
        files.fsync_folder(target.parent)
        if record.status != "failed":
            self.remove_leftovers(run)
        return record

    def remove_leftovers(self, run: str) -> None:
        """Delete a finished run's checkpoints, other attempts and partly written files.

        A job that was killed between record and receipt leaves them behind.
        """
        receipt = self.receipt(run)
        for path in (*self.debris(run), *receipt.parent.glob(files.partial_pattern(receipt.name))):
            with suppress(OSError):
                path.unlink()
        for path in self.attempts(run):
            shutil.rmtree(path, ignore_errors=True)

    def debris(self, run: str) -> list[Path]:
        """Files of no use in the directory of a finished run: checkpoints, its progress file, partly written files."""
        folder = self.folder(run)
        return [*folder.glob("progress.json"), *folder.glob("checkpoint-*"), *files.partial_files(folder)]

    def write_receipt(self, run: str, record: RunRecord) -> None:
        """Mark a run as done."""
        checksum = digest.of_file(self.folder(run) / "record.json")
        receipts.write(self.receipt(run), receipts.of_record(run, record, checksum))

    def read_receipt(self, run: str) -> Receipt | None:
        """A run's receipt, or None if the run is not done; its record is not read.

        Raises:
            UserError: the receipt is damaged.
        """
        return receipts.read(self.receipt(run), run)

    def remove_receipt(self, run: str) -> None:
        """Delete a run's receipt. The next job then trains the run again, unless its record can be reused.

        Raises:
            UserError: it cannot be deleted.
        """
        with os_errors(self.receipt(run), "cannot be removed"):
            self.receipt(run).unlink(missing_ok=True)

    def read(self, run: str) -> RunRecord:
        """The record of a run, checked against its own digest.

        Raises:
            UserError: no such record, a damaged one, or one of another format.
        """
        return read_record(self.folder(run) / "record.json")

    def read_finished(self, run: str) -> RunRecord | None:
        """The record of a run, or None if the run has no receipt.

        Raises:
            UserError: record or receipt are damaged, or do not match.
        """
        finished = self.read_with_checksum(run)
        return None if finished is None else finished[0]

    def read_with_checksum(self, run: str) -> tuple[RunRecord, str] | None:
        """As `read_finished`, with the SHA-256 of the record's file."""
        receipt = self.read_receipt(run)
        if receipt is None:
            return None
        record = self.read(run)
        self._check_record_file(run, receipt)
        return record, receipt.record

    def record_checksum(self, run: str) -> str | None:
        """SHA-256 of a run's record file, or None if the run has no receipt.

        Raises:
            UserError: the receipt is damaged, or does not match the record.
        """
        receipt = self.read_receipt(run)
        if receipt is None:
            return None
        self._check_record_file(run, receipt)
        return receipt.record

    def _check_record_file(self, run: str, receipt: Receipt) -> None:
        path = self.folder(run) / "record.json"
        if receipt.record != _digest_of_file(path):
            raise UserError(f"{path}: does not match its receipt {self.receipt(run)}")

    def find(self, run: str, identity: Identity) -> RunRecord | None:
        """The run's record if it can be reused for this identity, else None.

        It can if it is undamaged, not failed, and has the same four digests. An adoption may stand in for the code
        digest.
        """
        try:
            record = self.read(run)
            self.check_files(run, record)
        except UserError:
            return None
        recorded = record.identity
        if record.status == "failed" or recorded.model_copy(update={"code": identity.code}) != identity:
            return None
        return record if self.adoptions.lead(recorded.code, identity.code, identity.stack) else None

    @cached_property
    def adoptions(self) -> Adoptions:
        """The store's adoptions, as they were on first use."""
        return Adoptions(self.root)

    def check_files(self, run: str, record: RunRecord) -> None:
        """Raise `UserError` unless the record's other files have the checksums that it states.

        Weights may be absent if the run was unpacked without them.
        """
        for name, expected in record.files.items():
            path = self.folder(run) / name
            if not _omitted(path) and _digest_of_file(path) != expected:
                raise UserError(f"{path}: damaged: its checksum is not the one in the record")

    def arrays(self, run: str, record: RunRecord, name: str) -> dict[str, np.ndarray]:
        """The arrays of one of a record's files (``predictions`` or ``weights``), verified.

        Raises:
            UserError: the file is absent or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.folder(run) / f"{name}.safetensors"
        if _omitted(path):
            raise UserError(f"{path}: the run was unpacked without weights; unpack an archive of rdp pack --weights")
        if not path.is_file() or digest.of_file(path) != record.files.get(path.name):
            raise UserError(f"{path}: absent, damaged, or not the file that the record states")
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path}: matches its checksum, but holds no arrays ({error})") from None


def _omitted(path: Path) -> bool:
    """Whether a file holds weights that were left out when the run was unpacked."""
    return path.name == WEIGHTS and not path.exists() and path.with_name(WEIGHTS_OMITTED).exists()


def _digest_of_file(path: Path) -> str:
    with os_errors(path):
        return digest.of_file(path)
