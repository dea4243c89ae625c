"""Digests: the same content gives the same name, on every machine and Python version."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces. Floats keep every bit; NaN and infinity are refused."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode()


def of(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with its digest as the last of its keys, ``seal``."""
    return content | {"seal": of(content)}


def unseal(content: dict[str, Any]) -> bool | None:
    """Take the seal out of an object; whether it fits, or None where there is none."""
    if "seal" not in content:
        return None
    found = content.pop("seal")
    try:
        return bool(found == of(content))
    except ValueError:  # NaN, which JSON does not have and Python reads
        return False


def of_file(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and contents, whatever order or file the arrays lay in."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(canonical([name, str(array.dtype), list(array.shape)]))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
