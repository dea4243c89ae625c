"""When a claim, as it now reads, was first seen beside the results: whether it was fixed before the runs."""

import re
import time
from pathlib import Path

from rdp.claims import model
from rdp.errors import UserError
from rdp.store import timestamp
from rdp.utils import sealed

NEVER = "never"  # later than any time of day, as text too
FOLDER = "logs/claims"  # in a results directory
_OF = "claims"
_NAME = re.compile("[0-9a-f]{32}")


def note(results: Path) -> None:
    """Keep, for each claim that is new or was edited, that it was seen now. Training does so before its first run."""
    claims = model.load()
    for name in claims.claims:
        path = _path(claims.digest(name), results)
        if not path.exists():
            sealed.write(path, f"{timestamp(time.time())} {sealed.BLANK}\n".encode(), _OF)


def first_seen(digest: str, results: Path) -> str:
    """When `note` first saw a claim with this digest; after all times, where it never did."""
    path = _path(digest, results)
    if not path.exists():
        return NEVER
    content, _ = sealed.read(path, _OF, "delete it, and the claim counts as first seen when the next run is trained")
    return content.decode().partition(" ")[0]


def kept(results: Path) -> dict[str, str]:
    """When each text of a claim was first seen, by the name that its digest gives the file."""
    found = sorted(path.name for path in _path("", results).glob("*") if _NAME.fullmatch(path.name))
    return {name: first_seen(name, results) for name in found}


def keep(times: dict[str, str], results: Path) -> None:
    """Take over what `kept` told elsewhere, of runs that were trained there."""
    for name, seen in times.items():
        if not _NAME.fullmatch(name):
            raise UserError(f"{_path('', results)}: no name of a claim's text: {name}")
        sealed.write(_path(name, results), f"{seen} {sealed.BLANK}\n".encode(), _OF)


def _path(digest: str, results: Path) -> Path:
    return results / FOLDER / digest[:32]
