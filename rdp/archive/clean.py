"""Find and remove files of the store that are no longer needed.

By default these are the remains of killed processes: attempts from which no training resumes, replaced records,
partial files and stale locks. Unneeded runs, stale runs and checkpoints of unfinished runs are removed only on request.
Files that a live job may use are never removed: a locked run, an attempt with recent progress or a live process, and a
cell that a Snakemake works on.
"""

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rdp.archive.inventory import StoredCell, StoredRun, size
from rdp.errors import UserError
from rdp.jobs import locks
from rdp.store import Store, adoptions, origin, scratch
from rdp.utils import files

_FRESH_SECONDS = 120.0  # attempts write their progress every few seconds, and files take less
_SILENT_SECONDS = 3600.0  # of an attempt on another host, whose process is not visible here


@dataclass(frozen=True)
class Removal:
    """Files that may be removed together."""

    paths: tuple[Path, ...]  # files and folders, in the order of removal
    reason: str  # why they are not needed
    bytes: int  # their size
    run: str = ""  # the run they belong to, which must not be in training; empty if there is none
    whole: bool = False  # whether these are all files of the run


def find_removals(
    results: Path, cells: Iterable[StoredCell], *, unneeded: bool = False, stale: bool = False, attempts: bool = False
) -> Iterator[Removal]:
    """Find what may be removed; on request also unneeded and stale runs, and checkpoints of unfinished attempts.

    Raises:
        UserError: the results are recorded; unpacking again replaces those.
    """
    origin.refuse(results)
    store = Store(results)
    for cell in cells:
        unneeded_runs = cell.unneeded if unneeded else []
        for run in cell.runs:
            reason = "no study uses it" if run in unneeded_runs else ""
            reason = reason or ("of other code, not adopted" if stale and run.status == "stale" else "")
            if reason:
                parts = (store.receipt(run.run), store.folder(run.run), *store.attempts(run.run))
                present = tuple(path for path in parts if os.path.lexists(path))
                yield Removal(present, reason, run.bytes, run.run, whole=True)
            else:
                yield from _run_debris(store, run, attempts)
        yield from _partial_files(store.root / cell.name)
        for path in sorted((store.root / cell.name).glob("seed-*.lock")):
            yield Removal((path,), "lock", size(path), f"{cell.name}/{path.stem}")
    yield from _partial_files(store.root / adoptions.FOLDER)
    for name in (scratch.RETRAINED, scratch.IMPORTED):
        for path in sorted((store.root / name).glob("*")):
            if not _in_use(path):
                yield Removal((path,), "scratch folder of a killed process", size(path))


def _run_debris(store: Store, run: StoredRun, attempts: bool) -> Iterator[Removal]:
    done = run.status in {"completed", "diverged", "stale", "no receipt"}
    for path in store.attempts(run.run):
        if path.name.endswith("-replaced"):
            reason = "replaced record"
        elif done:
            reason = "attempt at a finished run"
        elif not any(path.glob("checkpoint-*")):
            reason = "attempt without a checkpoint"
        elif attempts:
            reason = "stopped attempt with checkpoints"
        else:
            continue
        yield Removal((path,), reason, size(path), run.run)
    if done and (remains := tuple(store.debris(run.run))):
        yield Removal(remains, "remains of training", sum(map(size, remains)), run.run)


def _partial_files(folder: Path) -> Iterator[Removal]:
    for path in sorted(files.partial_files(folder)):
        if _age(path) > _FRESH_SECONDS:
            yield Removal((path,), "partial file", size(path))


@contextmanager
def hold(results: Path, removal: Removal) -> Iterator[str | None]:
    """Keep other processes from using the files while the block lasts. Yields why they are in use, or None."""
    run, store = removal.run, Store(results)
    with ExitStack() as stack:
        reason = None
        if run and any(_alive(path) for path in store.attempts(run)):
            reason = "an attempt at it is running"
        elif run and not stack.enter_context(locks.try_lock_run(store, run)):
            reason = "another process holds its lock"
        elif removal.whole:
            cell, file = run.partition("/")[0], results / "logs" / "snakemake.lock"
            reason = None if stack.enter_context(locks.try_hold_name(cell, file)) else "a Snakemake works on its cell"
        yield f"{run}: {reason}" if reason else None


def remove(results: Path, removal: Removal) -> None:
    """Remove the files. A run's receipt is the first of them, so that a killed removal leaves an unfinished run.

    Raises:
        UserError: a file cannot be removed.
    """
    store = Store(results)
    for path in removal.paths:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{error.filename or path}: cannot be removed ({error.strerror})") from None
    for path in removal.paths:
        _remove_empty(path.parent, store.root)
    if removal.whole:
        cell = store.root / removal.run.partition("/")[0]
        runs = [path for path in (*cell.glob("seed-*"), *cell.glob("attempts/*")) if path.suffix != ".lock"]
        if not runs:  # the choice of its sweep is useless without them
            shutil.rmtree(cell, ignore_errors=True)


def _remove_empty(folder: Path, root: Path) -> None:
    with suppress(OSError):  # not empty
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _alive(attempt: Path) -> bool:
    """Whether an attempt may be running: it has written recently, or its process is alive."""
    silent = min(_age(path) for path in (attempt, *attempt.glob("*")))
    if attempt.name.endswith("-replaced"):
        return False
    if silent < _FRESH_SECONDS:
        return not _stopped(attempt)
    head, _, number = attempt.name.rpartition("-")[0].rpartition("-")
    if head.split("-", 2)[-1] != socket.gethostname():
        return silent < _SILENT_SECONDS
    return number.isdecimal() and Path(f"/proc/{number}").exists()


def _stopped(attempt: Path) -> bool:
    with suppress(OSError):
        return '"stopped": true' in (attempt / "progress.json").read_text(encoding="utf-8", errors="replace")
    return False


def _age(path: Path) -> float:
    """Seconds since a file was changed."""
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0


def _in_use(folder: Path) -> bool:
    try:
        with (folder / scratch.LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # not locked yet, or locks are not supported
        return _age(folder) < _SILENT_SECONDS
    return False
