"""Runs trained again from their beginning, in a place of their own, and compared with their records bit for bit."""

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rdp import adoptions, digest
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store

ROOM = "again"  # in the store, so on its file system; what killed processes leave there `rdp store clean` removes
LOCK = "lock"  # held as long as a place is in use


@contextmanager
def place(results: Path) -> Iterator[Path]:
    """A results directory for runs that are trained again, which vanishes when the block ends. It shares the prepared
    data of ``results``, and holds no record.

    Raises:
        UserError: it cannot be made.
    """
    folder = Store(results).root / ROOM / uuid.uuid4().hex[:12]
    try:
        folder.mkdir(parents=True)
        file = (folder / LOCK).open("w")
        (folder / "data").symlink_to((results / "data").resolve(), target_is_directory=True)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror})") from None
    with file:
        with suppress(OSError):  # where locks are not supported, its age tells
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # there are others
                folder.parent.rmdir()


def train(specs: list[RunSpec], results: Path, there: Path, device: str, cores: int = 1) -> list[RunRecord]:
    """Train runs once more, from their first step.

    The runs of sweeps that choose their learning rates are taken as they are, if they may stand for this checkout's.

    Args:
        specs: of one study.
        results: where their records are.
        there: see `place`.
        device: ``auto``, ``cpu`` or ``cuda``.
        cores: to train on side by side.

    Raises:
        UserError, Terminated: as `rdp.side_by_side.run_job` does.
    """
    from rdp.side_by_side import run_job

    ours, again = Store(results), Store(there)
    for path in (ours.root / adoptions.FOLDER).glob("*.json"):
        (again.root / adoptions.FOLDER).mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, again.root / adoptions.FOLDER)
    for run in {candidate.run for spec in specs for candidate in spec.candidates()}:
        if ours.folder(run).is_dir() and not again.folder(run).exists():
            shutil.copytree(ours.folder(run), again.folder(run))
    return run_job(specs, there, device, cores=cores)


def obstacle(record: RunRecord, stack: dict[str, str], data: str) -> str | None:
    """Why a run cannot be trained here to the bits of its record; None where it can.

    Args:
        record: of the run.
        stack: what would train it, see `rdp.fingerprint.stack`.
        data: digest of the data that it would be trained on.
    """
    if record.status == "failed":
        return "it failed, and left no numbers"
    if record.identity["stack"] != digest.of(stack):
        theirs = record.telemetry.get("stack") or {}
        other = [f"{n} {theirs.get(n)}, here {stack.get(n)}" for n in theirs | stack if theirs.get(n) != stack.get(n)]
        return f"it was trained on another stack ({'; '.join(other)})"
    if record.identity["data"] != data:
        return f"it was trained on other data (digest {record.identity['data'][:12]}, here {data[:12]})"
    return None


def differences(record: RunRecord, again: RunRecord) -> list[str]:
    """Where two records of one run differ, but for telemetry and which code made them; none where not a bit does.

    What comes first in training comes first: the first epoch that differs, then what is measured at the end.
    """
    one, other = (_compared(found) for found in (record, again))
    return list(_differences(one, other, ""))


def _compared(record: RunRecord) -> dict[str, Any]:
    numbers = dict(record.numbers)
    history = {f"epoch {row['epoch']}, step {row['step']}": row for row in numbers.pop("history", None) or []}
    status = record.status if record.reason is None else f"{record.status} ({record.reason})"
    found = {"status": status, "history": history, **numbers, "files": record.files}
    return found | {"identity": record.identity | {"code": None}, "schema": record.schema}


def _differences(one: Any, other: Any, where: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one | other:
            yield from _differences(one.get(name), other.get(name), f"{where}: {name}" if where else name)
    elif digest.canonical(one) != digest.canonical(other):
        yield f"{where}: {one!r} in its record, {other!r} now"
