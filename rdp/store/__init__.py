"""The run store: one directory a run, whole or absent, found by the digest of its specification.

::

    results/store/<cell>/seed-0003.json          receipt: what Snakemake waits for
    results/store/<cell>/seed-0003/record.json   the record
                                   predictions.safetensors, weights.safetensors
    results/store/<cell>/attempts/seed-0003-…/   an attempt under way: progress, checkpoints
    results/store/<cell>/tuned.json              what a sweep chose: what Snakemake waits for
    results/store/adopted/                       which code may stand for which: `rdp.store.adoptions`

An attempt writes in its own directory and is renamed into place when whole. Receipts are declared outputs,
which Snakemake deletes before it starts a job; records and checkpoints are not, so a job that comes back finds
them. Everything is JSON or safetensors: reading a store executes nothing.
"""

import os
import shutil
import socket
import time
import uuid
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rdp.errors import UserError
from rdp.store import debris, receipts
from rdp.store.adoptions import Adoptions
from rdp.store.record import WEIGHTS, WEIGHTS_OMITTED
from rdp.store.record import RunRecord as RunRecord
from rdp.store.record import Status as Status
from rdp.store.record import read as read_record
from rdp.utils import digest, files


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as records tell a time: in UTC, and of two times the later one is greater as text too."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Store:
    """The runs under one results directory."""

    def __init__(self, results: Path) -> None:
        self.root = results / "store"

    def folder(self, run: str) -> Path:
        """The directory of a run, whether it exists or not."""
        return self.root / run

    def receipt(self, run: str) -> Path:
        """The receipt of a run: the file whose presence says that the run is done."""
        return self.root / f"{run}.json"

    def attempts(self, run: str) -> list[Path]:
        """Directories of the run's attempts, those of killed jobs included."""
        cell, _, seed = run.partition("/")
        return sorted((self.root / cell / "attempts").glob(f"{seed}-*"))

    def new_attempt(self, run: str) -> Path:
        """A directory of its own for one attempt at a run."""
        cell, _, seed = run.partition("/")
        name = f"{seed}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        path = self.root / cell / "attempts" / name
        try:
            path.mkdir(parents=True)
        except OSError as error:
            where = error.filename or self.root
            raise UserError(f"{where}: results cannot be written there ({error.strerror})") from None
        return path

    def commit(self, run: str, attempt: Path, record: RunRecord) -> RunRecord:
        """Make a finished attempt the run: seal its files, write its record, rename it into place.

        Where another attempt at the same identity came first, that one stays and is returned; whether the two
        agree to the last bit is checked, and a difference is an error.

        Checkpoints are no part of the record. They go when it is in place, and not before: killed at any moment,
        the next attempt finds the record or a checkpoint. Those of a run that failed stay for the next attempt.

        Raises:
            UserError: it cannot be written, and stays an attempt; or two attempts differ.
        """
        found = sorted(attempt.glob("*.safetensors"))
        sealed = {path.name: digest.of_file(path) for path in found if not path.name.startswith("checkpoint-")}
        record = RunRecord(**{**vars(record), "files": sealed})
        for name in sealed:
            files.flush(attempt / name)
        files.write_json(attempt / "record.json", digest.seal(vars(record) | {"digest": record.digest}))
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
        try:
            if target.exists():  # other code, data or stack, or a failure: no longer what is asked for
                target.rename(attempt.with_name(f"{attempt.name}-replaced"))
            attempt.rename(target)
        except OSError as error:
            raise UserError(f"{target}: cannot be written ({error.strerror})") from None
        files.flush_folder(target.parent)
        if record.status != "failed":
            self.tidy(run)
        return record

    def tidy(self, run: str) -> None:
        """Remove what training a run left beside its record: its checkpoints, other attempts, halves of a receipt.

        A job that was killed between record and receipt left them.
        """
        for path in (*debris.of_run(self.folder(run)), *debris.of_receipt(self.receipt(run))):
            with suppress(OSError):
                path.unlink()
        for path in self.attempts(run):
            shutil.rmtree(path, ignore_errors=True)

    def write_receipt(self, run: str, record: RunRecord) -> None:
        """Say that a run is done, and which record is meant, with what plans and ``rdp status`` want to know of it."""
        receipts.write(self.receipt(run), run, record, digest.of_file(self.folder(run) / "record.json"))

    def glance(self, run: str) -> dict[str, Any] | None:
        """A run's receipt, without a look at its record, which is a hundred times the size; None for one not done.

        Raises:
            UserError: a damaged one.
        """
        return receipts.read(self.receipt(run), run, lambda: vars(self.read(run)))

    def read(self, run: str) -> RunRecord:
        """The record of a run, checked against its own digest.

        Raises:
            UserError: no such record, a damaged one, or one of a later version.
        """
        return read_record(self.folder(run) / "record.json")

    def find(self, run: str, identity: dict[str, Any]) -> RunRecord | None:
        """The run's record if it may stand for this identity: whole, not failed, the same four digests, or with code
        of which an adoption says that it comes to the same bits."""
        try:
            record = self.read(run)
            self.check_files(run, record)
        except UserError:
            return None
        return record if record.status != "failed" and self._fits(record.identity, identity) else None

    def _fits(self, made: dict[str, Any], wanted: dict[str, Any]) -> bool:
        if made == wanted:
            return True
        if made | {"code": None} != wanted | {"code": None}:
            return False
        return self.adoptions.lead(str(made.get("code")), str(wanted.get("code")), str(made.get("stack")))

    @cached_property
    def adoptions(self) -> Adoptions:
        """Which code may stand for which, as it was when first asked."""
        return Adoptions(self.root)

    def check_files(self, run: str, record: RunRecord) -> None:
        """Raise `UserError` unless a record's other files are as they were sealed.

        Weights may be absent if the run was unpacked without them.
        """
        for name, expected in record.files.items():
            path = self.folder(run) / name
            if name == WEIGHTS and not path.exists() and path.with_name(WEIGHTS_OMITTED).exists():
                continue
            if _digest_of_file(path) != expected:
                raise UserError(f"{path}: damaged: not the file its record was made with")

    def received(self, run: str) -> RunRecord | None:
        """The record a receipt speaks of, or None where the run is not done; raises where they disagree."""
        found = self.received_file(run)
        return None if found is None else found[0]

    def received_file(self, run: str) -> tuple[RunRecord, str] | None:
        """The same, with the checksum of its file."""
        receipt = self.glance(run)
        return None if receipt is None else (self.read(run), self._file_digest(run, receipt))

    def intact(self, run: str) -> str | None:
        """The checksum of a record's file, or None where the run is not done; raises where its receipt states another.

        A file of a known checksum need not be read as JSON to know what is in it.
        """
        receipt = self.glance(run)
        return None if receipt is None else self._file_digest(run, receipt)

    def _file_digest(self, run: str, receipt: dict[str, Any]) -> str:
        path = self.folder(run) / "record.json"
        found = _digest_of_file(path)
        if receipt.get("record") != found:
            raise UserError(f"{path}: not the record that {self.receipt(run)} was written for")
        return found

    def arrays(self, run: str, record: RunRecord, name: str) -> dict[str, np.ndarray]:
        """The arrays of one of a record's files (``predictions`` or ``weights``), verified."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.folder(run) / f"{name}.safetensors"
        if path.name == WEIGHTS and not path.exists() and path.with_name(WEIGHTS_OMITTED).exists():
            raise UserError(f"{path}: the run was unpacked without weights; unpack an archive of rdp pack --weights")
        if not path.is_file() or digest.of_file(path) != record.files.get(path.name):
            raise UserError(f"{path}: absent, damaged or not the file its record was made with")
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path}: its checksum fits, and it holds no arrays ({error})") from None

    def forget(self, run: str) -> None:
        """Remove a run's receipt, so that the next job trains it again unless its record may be reused.

        Raises:
            UserError: it cannot be removed: a folder, or of somebody else.
        """
        path = self.receipt(run)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot be removed ({error.strerror})") from None


def _digest_of_file(path: Path) -> str:
    try:
        return digest.of_file(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
