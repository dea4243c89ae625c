"""Sealed files: files that contain their own checksum, verified before each reading.

The seal is a mark, placed where the format allows it (Parquet metadata, a comment of an SVG, a key of a JSON object),
followed by the SHA-256 of all other bytes, the file name and the owner. Nothing is decoded before the seal is verified:
flipped bits in a Parquet file may change numbers or crash the process.

The same content gives the same bytes. A seal detects damage, not forgery.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdp.errors import UserError
from rdp.utils import digest, files

if TYPE_CHECKING:
    import pandas as pd

_MARK = b"rdp-seal:"
_DIGITS = 64
BLANK = _MARK.decode() + "0" * _DIGITS  # placeholder in a content to be sealed


def write(path: Path, content: bytes, owner: str) -> str:
    """Write a file with the last `BLANK` in its content replaced by the seal, and return the seal.

    Args:
        path: the file.
        content: its bytes.
        owner: what the file belongs to, such as its study; it must be the same when the file is read.
    """
    before, _, after = _parts(content)
    seal = _seal(path, owner, before, after)
    with files.atomic_write(path) as part:
        part.write_bytes(before + seal.encode() + after)
    return seal


def read(path: Path, owner: str, remedy: str) -> tuple[bytes, str]:
    """Content and seal of a sealed file.

    Raises:
        UserError: the file is missing or damaged; one line with the remedy.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    if _MARK not in content:
        raise UserError(f"{path}: damaged (no seal, or not written by rdp); {remedy}")
    before, seal, after = _parts(content)
    if seal != _seal(path, owner, before, after).encode():
        raise UserError(
            f"{path}: damaged (its seal does not match: bytes changed, or the file belongs elsewhere); {remedy}"
        )
    return content, seal.decode()


def write_table(path: Path, table: "pd.DataFrame", owner: str) -> str:
    """Write a table as Parquet, without its index, and return the seal."""
    import pyarrow as pa
    from pyarrow import parquet

    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata((content.schema.metadata or {}) | {"seal": BLANK})
    buffer = io.BytesIO()
    parquet.write_table(content, buffer)
    return write(path, buffer.getvalue(), owner)


def read_table(path: Path, owner: str, remedy: str) -> tuple["pd.DataFrame", str]:
    """The table of a file of `write_table`, and its seal."""
    import pandas as pd

    content, seal = read(path, owner, remedy)
    try:
        return pd.read_parquet(io.BytesIO(content)), seal
    except (ValueError, OSError):  # sealed, but not written by `write_table`
        raise UserError(f"{path}: damaged (sealed, but not a table); {remedy}") from None


def write_json(path: Path, value: dict[str, Any], owner: str) -> str:
    """Write a JSON object with its seal under the key ``seal``. NaN and infinity raise `ValueError`."""
    text = json.dumps(value | {"seal": BLANK}, indent=1, allow_nan=False, ensure_ascii=False)
    return write(path, f"{text}\n".encode(), owner)


def read_json(path: Path, owner: str, remedy: str) -> dict[str, Any]:
    """The object of a file of `write_json`, without the seal."""
    content = read(path, owner, remedy)[0]
    try:
        value: dict[str, Any] = json.loads(content)
        del value["seal"]
    except (ValueError, TypeError, KeyError, RecursionError):  # sealed, but not written by `write_json`
        raise UserError(f"{path}: damaged (sealed, but not a JSON object); {remedy}") from None
    return value


def _parts(content: bytes) -> tuple[bytes, bytes, bytes]:
    """The bytes before the seal, the seal, and the bytes after it."""
    start = content.rindex(_MARK) + len(_MARK)
    return content[:start], content[start : start + _DIGITS], content[start + _DIGITS :]


def _seal(path: Path, owner: str, before: bytes, after: bytes) -> str:
    place = digest.canonical([owner, path.name, len(before)])
    return hashlib.sha256(b"\0".join([place, before, after])).hexdigest()
