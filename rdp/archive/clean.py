"""``rdp store clean``: what nothing in the store needs any more.

By default that is what killed processes left: attempts that no training would go on from, records that newer ones have
replaced, halves of files, locks that nobody holds. Runs that no study asks for, runs of other code and checkpoints of
runs that are not done go only where they are asked for. What a live job may hold stays: a run whose lock is held, an
attempt of which there was a sign of late or whose process lives, a cell that a Snakemake works on.
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

from rdp.archive.inventory import Kept, KeptCell, size
from rdp.errors import UserError
from rdp.jobs import locks
from rdp.store import Store, adoptions, debris, origin, scratch

_FRESH_SECONDS = 120.0  # an attempt writes its progress every few seconds; a file is written in less
_SILENT_SECONDS = 3600.0  # of an attempt on another host, of which nobody here can see whether it lives


@dataclass(frozen=True)
class Removal:
    """What may go.

    Attributes:
        paths: files and folders, in the order in which they go.
        why: in a few words.
        bytes: of all of them.
        run: that must not be in training meanwhile; empty where none is concerned.
        whole: whether it is all there is of a run.
    """

    paths: tuple[Path, ...]
    why: str
    bytes: int
    run: str = ""
    whole: bool = False


def found(
    results: Path, cells: Iterable[KeptCell], *, unneeded: bool = False, stale: bool = False, attempts: bool = False
) -> Iterator[Removal]:
    """What may go.

    Args:
        results: the results directory.
        cells: what is in its store, from `rdp.archive.inventory.cells`.
        unneeded: runs that no study asks for, too.
        stale: runs that other code made, and that are not adopted, too.
        attempts: the checkpoints of runs that are not done, too: they then begin anew.

    Raises:
        UserError: the results are recorded; a new unpacking replaces those as a whole.
    """
    origin.refuse(results)
    store = Store(results)
    for cell in cells:
        gone = {kept.run for kept in cell.unneeded} if unneeded else set()
        for kept in cell.runs:
            why = "no study asks for it" if kept.run in gone else ""
            why = why or ("made by other code, and not adopted" if stale and kept.status == "stale" else "")
            if why:
                parts = (store.receipt(kept.run), store.folder(kept.run), *store.attempts(kept.run))
                there = tuple(path for path in parts if os.path.lexists(path))
                yield Removal(there, why, kept.bytes, kept.run, whole=True)
            else:
                yield from _of_run(store, kept, attempts)
        yield from _halves(debris.of_cell(store.root / cell.name))
        for path in sorted((store.root / cell.name).glob("seed-*.lock")):
            yield Removal((path,), "a lock", size(path), f"{cell.name}/{path.stem}")
    yield from _halves(debris.of_cell(store.root / adoptions.FOLDER))
    for room in (scratch.RETRAINED, scratch.IMPORTED):
        for path in sorted((store.root / room).glob("*")):
            if not _in_use(path):
                yield Removal((path,), "left by a process that was killed", size(path))


def _of_run(store: Store, kept: Kept, attempts: bool) -> Iterator[Removal]:
    done = kept.status in {"completed", "diverged", "stale", "unreceived"}
    for path in store.attempts(kept.run):
        if path.name.endswith("-replaced"):
            why = "a record that was replaced"
        elif done:
            why = "an attempt at a run that is done"
        elif not any(path.glob("checkpoint-*")):
            why = "an attempt that left no checkpoint"
        elif attempts:
            why = "an attempt that was stopped, with its checkpoints"
        else:
            continue
        yield Removal((path,), why, size(path), kept.run)
    if done and (left := tuple(debris.of_run(store.folder(kept.run)))):
        yield Removal(left, "left beside a record", sum(map(size, left)), kept.run)


def _halves(paths: Iterable[Path]) -> Iterator[Removal]:
    for path in sorted(paths):
        if _age(path) > _FRESH_SECONDS:
            yield Removal((path,), "half of a file", size(path))


@contextmanager
def held(results: Path, removal: Removal) -> Iterator[str | None]:
    """Keep what may go from being used while the block lasts; why it must stay, or None where it is ours to remove."""
    run, store = removal.run, Store(results)
    with ExitStack() as stack:
        why = None
        if run and any(_alive(path) for path in store.attempts(run)):
            why = "an attempt at it is under way"
        elif run and not stack.enter_context(locks.try_lock_run(store, run)):
            why = "another process holds its lock"
        elif removal.whole:
            cell, file = run.partition("/")[0], results / "logs" / "snakemake.lock"
            why = None if stack.enter_context(locks.try_hold_name(cell, file)) else "a Snakemake works on its cell"
        yield f"{run}: {why}" if why else None


def remove(results: Path, removal: Removal) -> None:
    """Remove it. Of a run the receipt goes first: killed on the way, the run is one that is not done.

    Raises:
        UserError: something cannot be removed.
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
        left = [path for path in (*cell.glob("seed-*"), *cell.glob("attempts/*")) if path.suffix != ".lock"]
        if not left:  # but for what its sweep chose
            shutil.rmtree(cell, ignore_errors=True)


def _remove_empty(folder: Path, root: Path) -> None:
    with suppress(OSError):  # something is in it
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _alive(attempt: Path) -> bool:
    """Whether an attempt may be under way: there was a sign of it of late, or its process lives."""
    told = (_age(path) for path in (attempt, *attempt.glob("*")))
    silent = min(told, default=0.0)
    if attempt.name.endswith("-replaced"):
        return False
    if silent < _FRESH_SECONDS:
        return not _stopped(attempt)
    head, _, number = attempt.name.rpartition("-")[0].rpartition("-")
    if head.split("-", 2)[-1] != socket.gethostname():
        return silent < _SILENT_SECONDS
    return number.isdecimal() and Path(f"/proc/{number}").exists()


def _stopped(attempt: Path) -> bool:
    """Whether it says that it ended in an orderly way."""
    with suppress(OSError):
        return '"stopped": true' in (attempt / "progress.json").read_text(encoding="utf-8", errors="replace")
    return False


def _age(path: Path) -> float:
    """Seconds since a file was changed; those from the future are new."""
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _in_use(place: Path) -> bool:
    """Whether a process holds the lock of a place of its own."""
    try:
        with (place / scratch.LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock yet, or none where this is: its age tells
        return _age(place) < _SILENT_SECONDS
    return False
