"""Locks between processes that share a file system: one job trains a run, one Snakemake makes a file.

A run is locked by a file of its own (`filelock`). The names that a Snakemake makes, up to ten thousand, are byte
ranges of one file instead: a lock on each of so many files would need as many open files, and leave them behind.
"""

import fcntl
import logging
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from rdp.errors import UserError, os_errors
from rdp.jobs.signals import Termination
from rdp.store import Store
from rdp.utils import digest

log = logging.getLogger(__name__)

_STALE_SECONDS = 120.0  # a holder without progress for so long counts as dead
_POLL_SECONDS = 0.5
_held: list[IO[str]] = []


@contextmanager
def lock_run(store: Store, run: str, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Wait while another process trains the same run, and make others wait while the block lasts.

    The lock saves work; correctness does not depend on it. Where locks are not supported, or the holder shows no
    progress (a lost node), the run is trained twice, and `Store.commit` keeps one whole record. ``check`` is called
    while waiting; an exception that it raises ends the waiting.
    """
    path = _lock_path(store, run)
    since, last, waiting = time.monotonic(), None, False
    while (lock := _acquire(path)) is None and time.monotonic() - since <= _STALE_SECONDS:
        if not waiting:
            log.info("%s: another process is training this run, waiting", run)
            waiting = True
        check()
        if (updates := _progress_times(store, run)) != last:
            since, last = time.monotonic(), updates
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before the release: whoever opened it meanwhile notices that it is gone
        if lock is not None:
            lock.release()


@contextmanager
def try_lock_run(store: Store, run: str) -> Iterator[bool]:
    """Hold the lock of a run while the block lasts; False, at once, if another process holds it."""
    path = _lock_path(store, run)
    existed = path.exists()  # left by a job that was killed
    lock = _acquire(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            if not existed:
                path.unlink(missing_ok=True)  # before the release, as in `lock_run`
            lock.release()


def _lock_path(store: Store, run: str) -> Path:
    path = store.root / f"{run}.lock"
    with os_errors(store.root, "cannot write results"):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _acquire(path: Path) -> FileLock | None:
    """The lock, held unless the file system supports no locks; None while another process holds it."""
    lock = FileLock(path, fallback_to_soft=False)
    try:
        # Not at once: the previous holder may remove the file just when it is opened.
        lock.acquire(timeout=0.1, poll_interval=0.02)
    except Timeout:
        return None
    except OSError as error:
        if error.filename is not None:  # of opening the file, not of locking it
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    return lock


def _progress_times(store: Store, run: str) -> list[int]:
    """When each attempt at a run last wrote its progress file: this changes while one is alive."""
    times = []
    for attempt in store.attempts(run):
        with suppress(OSError):  # the attempt may end meanwhile
            times.append((attempt / "progress.json").stat().st_mtime_ns)
    return times


def hold_names(names: Iterable[str], path: Path) -> None:
    """Wait until no other process holds any of these names, and hold them until this process ends.

    Nothing is held where locks are not supported.

    Args:
        names: names of what one process at a time makes.
        path: the lock file; each name locks one byte of it, at the position that its digest gives.

    Raises:
        UserError: the file cannot be written.
        Terminated: SIGTERM or Ctrl-C came while waiting.
    """
    file = _open(path)
    _held.append(file)
    waiting = False
    with Termination().on(signal.SIGINT, signal.SIGTERM) as stop:  # Snakemake's own handler would wait for jobs to end
        for position in sorted({_position(name) for name in names}):  # sorted: no two processes wait for each other
            while not _lock_byte(file, position):
                if not waiting:
                    log.warning("%s: another process makes the same files, waiting for it to end", path)
                    waiting = True
                stop.check()
                time.sleep(_POLL_SECONDS)


@contextmanager
def try_hold_name(name: str, path: Path) -> Iterator[bool]:
    """Hold a name as `hold_names` does while the block lasts; False, at once, if another process holds it."""
    with _open(path) as file:
        yield _lock_byte(file, _position(name))


def _open(path: Path) -> IO[str]:
    with os_errors(path, "cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")


def _position(name: str) -> int:
    return int(digest.of(name)[:15], 16)


def _lock_byte(file: IO[str], position: int) -> bool:
    """Whether this process now holds the lock on a byte of the file, or locks are not supported."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True
