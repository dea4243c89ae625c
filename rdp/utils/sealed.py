"""Sealed files: they say of themselves whether they are whole, and every reading verifies it.

A sealed file holds a mark, where its format has room for one (Parquet's metadata, a comment of an SVG, a key of a
JSON object), and behind the mark the SHA-256 of all its other bytes, its name, and what it belongs to. Not a byte is
decoded before they agree: of flipped bits in a Parquet file, some are other numbers, and some end the process.

The same content makes the same bytes. Nobody is kept from sealing what he made up.
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
BLANK = _MARK.decode() + "0" * _DIGITS  # what stands in a content that is to be sealed


def write(path: Path, content: bytes, of: str) -> str:
    """Write a file whose content holds `BLANK`; the last of them becomes the seal, which is returned.

    Args:
        path: where.
        content: what.
        of: what the file belongs to, such as its study; read as of anything else, it does not fit.
    """
    before, _, after = _parts(content)
    seal = _seal(path, of, before, after)
    with files.whole(path) as part:
        part.write_bytes(before + seal.encode() + after)
    return seal


def read(path: Path, of: str, remedy: str) -> tuple[bytes, str]:
    """The content of a sealed file, and its seal.

    Raises:
        UserError: one line with the file, what is wrong with it, and the remedy.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    if _MARK not in content:
        raise UserError(f"{path}: damaged (it has no seal, or was not written by rdp); {remedy}")
    before, seal, after = _parts(content)
    if seal != _seal(path, of, before, after).encode():
        raise UserError(f"{path}: damaged (its seal does not fit: bytes changed, or it belongs elsewhere); {remedy}")
    return content, seal.decode()


def write_table(path: Path, table: "pd.DataFrame", of: str) -> str:
    """Write a table as Parquet, without its index; returns the seal."""
    import pyarrow as pa
    from pyarrow import parquet

    content = pa.Table.from_pandas(table, preserve_index=False)
    content = content.replace_schema_metadata((content.schema.metadata or {}) | {"seal": BLANK})
    buffer = io.BytesIO()
    parquet.write_table(content, buffer)
    return write(path, buffer.getvalue(), of)


def read_table(path: Path, of: str, remedy: str) -> tuple["pd.DataFrame", str]:
    """The table that `write_table` left, and its seal."""
    import pandas as pd

    content, seal = read(path, of, remedy)
    try:
        return pd.read_parquet(io.BytesIO(content)), seal
    except (ValueError, OSError):  # sealed by somebody, and not by `write_table`
        raise UserError(f"{path}: damaged (its seal fits, and it is no table); {remedy}") from None


def write_json(path: Path, value: dict[str, Any], of: str) -> str:
    """Write a JSON object with its seal as the last of its keys; NaN and infinity are refused."""
    text = json.dumps(value | {"seal": BLANK}, indent=1, allow_nan=False, ensure_ascii=False)
    return write(path, f"{text}\n".encode(), of)


def read_json(path: Path, of: str, remedy: str) -> dict[str, Any]:
    """The object that `write_json` left, without the seal."""
    content = read(path, of, remedy)[0]
    try:
        value: dict[str, Any] = json.loads(content)
        del value["seal"]
    except (ValueError, TypeError, KeyError, RecursionError):  # sealed by somebody, and not by `write_json`
        raise UserError(f"{path}: damaged (its seal fits, and it is no JSON object); {remedy}") from None
    return value


def _parts(content: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before a content's seal, the seal, and what stands behind it."""
    start = content.rindex(_MARK) + len(_MARK)
    return content[:start], content[start : start + _DIGITS], content[start + _DIGITS :]


def _seal(path: Path, of: str, before: bytes, after: bytes) -> str:
    place = digest.canonical([of, path.name, len(before)])
    return hashlib.sha256(b"\0".join([place, before, after])).hexdigest()
