"""When a claim, as it now reads, was first seen beside the results: whether it was fixed before the runs."""

import time
from pathlib import Path

from rdp import files
from rdp.claims import model
from rdp.store import timestamp

NEVER = "never"  # later than any time of day, as text too


def note(results: Path) -> None:
    """Keep, for each claim that is new or was edited, that it was seen now. Training does so before its first run."""
    claims = model.load()
    for name in claims.claims:
        path = _path(claims.digest(name), results)
        if not path.exists():
            with files.whole(path) as part:
                part.write_text(timestamp(time.time()), encoding="utf-8")


def first_seen(digest: str, results: Path) -> str:
    """When `note` first saw a claim with this digest; after all times, where it never did."""
    try:
        return _path(digest, results).read_text(encoding="utf-8").strip()
    except OSError:
        return NEVER


def _path(digest: str, results: Path) -> Path:
    return results / "logs" / "claims" / digest[:32]
