"""The time at which each version of a claim was first seen in a results directory.

A claim that was first seen after the runs that decide it was not fixed beforehand.
"""

import re
import time
from pathlib import Path

from rdp.claims import model
from rdp.errors import UserError
from rdp.store import timestamp
from rdp.utils import sealed

NEVER = "never"  # sorts after every time, as text too
FOLDER = "logs/claims"  # in a results directory
_SEAL = "claims"
_NAME = re.compile("[0-9a-f]{32}")


def record_claims(results: Path) -> None:
    """Record the current time for each claim that is new or was edited. Training does this before its first run."""
    claims = model.load()
    for name in claims.claims:
        path = _path(claims.digest(name), results)
        if not path.exists():
            sealed.write(path, f"{timestamp(time.time())} {sealed.BLANK}\n".encode(), _SEAL)


def first_seen(digest: str, results: Path) -> str:
    """The time at which a claim with this digest was first seen, or `NEVER`."""
    path = _path(digest, results)
    if not path.exists():
        return NEVER
    content, _ = sealed.read(path, _SEAL, "delete it; the claim then counts as first seen when the next run is trained")
    return content.decode().partition(" ")[0]


def first_seen_times(results: Path) -> dict[str, str]:
    """The times of all claims ever seen, by the first 32 digits of the claim's digest."""
    names = sorted(path.name for path in _path("", results).glob("*") if _NAME.fullmatch(path.name))
    return {name: first_seen(name, results) for name in names}


def restore(times: dict[str, str], results: Path) -> None:
    """Write the `first_seen_times` of another results directory, together with the runs trained there."""
    for name, seen in times.items():
        if not _NAME.fullmatch(name):
            raise UserError(f"{_path('', results)}: '{name}' is not the digest of a claim")
        sealed.write(_path(name, results), f"{seen} {sealed.BLANK}\n".encode(), _SEAL)


def _path(digest: str, results: Path) -> Path:
    return results / FOLDER / digest[:32]
