"""Digests that depend only on content, not on the machine or the Python version."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, as bytes. Floats are exact; NaN and infinity raise `ValueError`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode()


def of(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """The JSON object with its digest added under the key ``seal``."""
    return content | {"seal": of(content)}


def unseal(content: dict[str, Any]) -> bool | None:
    """Remove the seal from an object; return whether it matches, or None without a seal."""
    if "seal" not in content:
        return None
    seal = content.pop("seal")
    try:
        return bool(seal == of(content))
    except ValueError:  # NaN, which Python reads although it is not JSON
        return False


def of_file(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and contents, independent of the order of the arrays."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(canonical([name, str(array.dtype), list(array.shape)]))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
