"""Files that are whole or absent: written apart, flushed to disk, and renamed into place."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rdp.errors import UserError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends, and vanishes if it fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        flush(part)
        part.replace(path)
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be written ({error.strerror or error})") from None
    finally:
        with suppress(OSError):  # the folder itself may be what could not be made
            part.unlink()


def flush(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged: not readable as JSON ({error})") from None
