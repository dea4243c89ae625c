"""Files that are whole or absent: written apart, flushed to disk, and renamed into place."""

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

# The user's permissions for a new file: what safetensors writes, nobody else could read.
_MODE = 0o666 & ~(_umask := os.umask(0))
os.umask(_umask)
HALVES = (".*.part", ".tmp*")  # what killed processes leave of files, by patterns; the second is safetensors' own


def halves_of(name: str) -> str:
    """The pattern of what killed processes leave of a file of this name."""
    return f".{name}.*.part"


def _half(path: Path) -> Path:
    """What a file or folder is called until it is whole."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")  # two hosts may have processes of one number


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends, and vanishes if it fails.

    Raises:
        UserError: the file cannot be written: a full disk, a folder that is a file. What ``path`` held stays.
    """
    part = _half(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.chmod(_MODE)
        flush(part)
        part.replace(path)
    except OSError as error:
        name = path if error.filename in (None, str(part)) else error.filename
        raise UserError(f"{name}: cannot be written ({error.strerror or error})") from None
    except SafetensorError as error:  # safetensors tells so of a full disk
        raise UserError(f"{path}: cannot be written ({error})") from None
    finally:
        with suppress(OSError):  # the folder itself may be what could not be made
            part.unlink()
    flush_folder(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place when the block ends, and vanishes if it fails.

    Raises:
        UserError: the folder cannot be written. What ``path`` held stays.
    """
    part = _half(path)
    try:
        part.mkdir(parents=True)
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                flush(file)
        if path.exists():
            path.rename(part.with_suffix(".old"))
        part.rename(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(part.with_suffix(".old"), ignore_errors=True)
    flush_folder(path.parent)


@contextmanager
def tended(folder: Path, *leftovers: str) -> Iterator[None]:
    """Write in a folder while the block lasts, after removing what killed processes left half written there.

    Every process in such a block holds a shared lock on the folder's file ``.lock``, and only one that could have
    it alone removes anything: what another one writes, on whatever node, stays. Where locks are not supported,
    so does everything.

    Args:
        folder: made where it is absent.
        leftovers: patterns of the names of halves of files.

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
            with suppress(BlockingIOError):  # others write
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for path in [path for pattern in leftovers for path in folder.glob(pattern)]:
                    path.unlink()
            fcntl.flock(file, fcntl.LOCK_SH)  # waits no longer than another one takes to remove leftovers
        yield


def flush(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, so that a power cut undoes no renaming."""
    with suppress(OSError):  # not every file system can, and what is written is whole without it
        flush(path)


def bring_to_present(paths: Iterable[Path]) -> None:
    """Date files from the future now, in their order; those that a clock set back since left so.

    Snakemake takes what is made from them for older than they are, and its job for failed.
    """
    dated = {}
    for path in paths:
        with suppress(OSError):
            dated[path] = path.stat().st_mtime
    for path in sorted((path for path, date in dated.items() if date > time.time()), key=dated.__getitem__):
        with suppress(OSError):
            os.utime(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, whole or not at all. NaN and infinity are refused: they are not JSON."""
    with whole(path) as part:
        part.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises `UserError` for one that is absent, truncated or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: not readable as JSON ({error})") from None


def check_format(path: Path, content: Any, kind: str, number: int, remedy: str) -> None:
    """Raise `UserError` unless the content of a JSON file has the format that this version of rdp reads.

    Args:
        path: the file.
        content: what it holds; its format is under the key ``format``.
        kind: the kind of file, for the message.
        number: the format that this version reads.
        remedy: what the user can do, as a sentence.
    """
    stated = content.get("format") if isinstance(content, dict) else None
    if type(stated) is not int:
        raise UserError(f"{path}: damaged: not a {kind}: it states no format")
    if stated != number:
        raise UserError(f"{path}: {kind} format {stated}; this version of rdp reads format {number}. {remedy}")
