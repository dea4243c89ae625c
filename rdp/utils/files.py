"""Atomic files: written under a temporary name, flushed to disk, and renamed into place."""

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from rdp.errors import UserError

# The user's permissions for a new file. safetensors writes files that only their owner can read.
_MODE = 0o666 & ~(_umask := os.umask(0))
os.umask(_umask)
PARTIAL_PATTERNS = (".*.part", ".tmp*")  # names of partial files, left by killed processes; .tmp* by safetensors


def partial_pattern(name: str) -> str:
    """The pattern of the names of partial files of one name."""
    return f".{name}.*.part"


def partial_files(folder: Path) -> list[Path]:
    """The partial files in a folder."""
    return [path for pattern in PARTIAL_PATTERNS for path in folder.glob(pattern)]


def _partial_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` if the block succeeds.

    Raises:
        UserError: the file cannot be written, for example because the disk is full. The previous file stays.
    """
    part = _partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.chmod(_MODE)
        fsync(part)
        part.replace(path)
    except OSError as error:
        name = path if error.filename in (None, str(part)) else error.filename
        raise UserError(f"{name}: cannot be written ({error.strerror or error})") from None
    except SafetensorError as error:  # safetensors raises it on a full disk
        raise UserError(f"{path}: cannot be written ({error})") from None
    finally:
        with suppress(OSError):  # the folder may not exist
            part.unlink()
    fsync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; replace ``path`` by it if the block succeeds.

    Raises:
        UserError: the folder cannot be written. The previous folder stays.
    """
    part = _partial_path(path)
    try:
        part.mkdir(parents=True)
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                fsync(file)
        if path.exists():
            path.rename(part.with_suffix(".old"))
        part.rename(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(part.with_suffix(".old"), ignore_errors=True)
    fsync_folder(path.parent)


@contextmanager
def write_session(folder: Path, *patterns: str) -> Iterator[None]:
    """Remove partial files that killed processes left in a folder, and protect new ones while the block lasts.

    Each process in such a block holds a shared lock on the file ``.lock`` of the folder. Only a process that can hold
    it exclusively removes files, so files being written by others stay, on any host. Where locks are not supported,
    nothing is removed. The folder is created if it does not exist.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written ({error.strerror or error})") from None
    with file:
        with suppress(OSError):
            with suppress(BlockingIOError):  # others are writing
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for path in [path for pattern in patterns for path in folder.glob(pattern)]:
                    path.unlink()
            fcntl.flock(file, fcntl.LOCK_SH)  # waits only while another process removes files
        yield


def fsync(path: Path) -> None:
    """Wait until a file's content is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk, so that a power failure does not undo a renaming."""
    with suppress(OSError):  # some file systems do not support it, and files are atomic without it
        fsync(path)


def redate_future(paths: Iterable[Path]) -> None:
    """Set modification times in the future, which a clock set back since leaves, to now, in their order.

    Snakemake would take their products for outdated, and the job for failed.
    """
    times = {}
    for path in paths:
        with suppress(OSError):
            times[path] = path.stat().st_mtime
    for path in sorted((path for path, modified in times.items() if modified > time.time()), key=times.__getitem__):
        with suppress(OSError):
            os.utime(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value atomically. NaN and infinity raise `ValueError`: they are not JSON."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is missing, truncated or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: not readable as JSON ({error})") from None


def check_format(path: Path, content: Any, kind: str, number: int, remedy: str) -> None:
    """Raise `UserError`, which ends with the remedy, unless a JSON file of some kind has this format number."""
    stated = content.get("format") if isinstance(content, dict) else None
    if type(stated) is not int:
        raise UserError(f"{path}: damaged: not a {kind}: it states no format")
    if stated != number:
        raise UserError(f"{path}: {kind} format {stated}; this version of rdp reads format {number}. {remedy}")
