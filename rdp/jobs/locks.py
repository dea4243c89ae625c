"""One process at a time, as far as the processes of one file system can know of each other.

One job at a time trains a run, and of Snakemakes that make the same files one at a time works on them.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rdp.errors import UserError
from rdp.jobs.signals import stoppable
from rdp.store import Store
from rdp.utils import digest

_STALE_SECONDS = 120.0  # a holder that shows no progress for so long is taken for dead
_LOOK_SECONDS = 0.5
_held: list[IO[str]] = []


@contextmanager
def lock(store: Store, run: str, say: Callable[[str], None], look: Callable[[], None]) -> Iterator[None]:
    """Wait while another process trains the same run; keep others waiting while the block lasts.

    It saves double work; nothing depends on it. Where locks are not supported, or the holder shows no progress
    (a lost node), the run is trained beside it, and `Store.commit` keeps one whole record.

    Args:
        store, run: which.
        say: told that it waits.
        look: called while it waits; what it raises ends the waiting.
    """
    path = store.root / f"{run}.lock"
    waited, seen, told = time.monotonic(), None, False
    while (file := _locked(path, store)) is None and time.monotonic() - waited <= _STALE_SECONDS:
        if not told:
            say(f"{run}: in training by another process, waiting")
            told = True
        look()
        if (now := _signs(store, run)) != seen:
            waited, seen = time.monotonic(), now
        time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # before it is let go: see `_locked`
        if file is not None:
            file.close()


@contextmanager
def free(store: Store, run: str) -> Iterator[bool]:
    """Keep others from training a run while the block lasts, unless one does: then at once, with False."""
    path = store.root / f"{run}.lock"
    left = path.exists()  # by a job that was killed
    file = _locked(path, store)
    try:
        yield file is not None
    finally:
        if file is not None:
            with suppress(OSError):
                if not left:
                    path.unlink()  # before it is let go: see `_locked`
            file.close()


def _locked(path: Path, store: Store) -> IO[str] | None:
    """The file, locked, or open alone where locks are not supported; None while another process holds it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except OSError as error:
            raise UserError(f"{store.root}: results cannot be written there ({error.strerror})") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:
            return file
        # The holder before may have removed the file since it was opened: then this lock keeps nobody out.
        with suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()


def _signs(store: Store, run: str) -> list[int]:
    """When each attempt at a run last told of its progress: what changes while one is alive."""
    found = []
    for attempt in store.attempts(run):
        with suppress(OSError):  # the attempt may end meanwhile
            found.append((attempt / "progress.json").stat().st_mtime_ns)
    return found


def hold(names: Iterable[str], path: Path, say: Callable[[str], None]) -> None:
    """Wait until no other process holds any of these names, and hold them until this one ends, in whatever way.

    Where locks are not supported nothing is held.

    Args:
        names: of what is to be made by one process at a time.
        path: a file that stands for all names: each locks one byte of it, where its digest says.
        say: told that it waits.

    Raises:
        UserError: the file cannot be made.
        Terminated: SIGTERM or Ctrl-C came while it waited.
    """
    file = _shared(path)
    _held.append(file)
    told = False
    with stoppable():
        for place in sorted({_place(name) for name in names}):  # in order: none waits in a circle
            while not _locked_at(file, place):
                if not told:
                    say(f"{path}: held by another process that makes the same, waiting for its end")
                    told = True
                time.sleep(_LOOK_SECONDS)


@contextmanager
def free_name(name: str, path: Path) -> Iterator[bool]:
    """Hold a name as `hold` does while the block lasts, unless another process does: then at once, with False."""
    with _shared(path) as file:
        yield _locked_at(file, _place(name))


def _shared(path: Path) -> IO[str]:
    """The file that stands for all names."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _place(name: str) -> int:
    return int(digest.of(name)[:15], 16)


def _locked_at(file: IO[str], place: int) -> bool:
    """Whether a byte of a file is locked for this process now, or locks are not supported."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True
