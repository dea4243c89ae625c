"""The lock: which versions of packages this project is installed with."""

import re
from pathlib import Path

LOCK = "envs/requirements.lock"  # in a checkout, and in what a wheel holds of it
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.M)


def locked(path: Path) -> dict[str, set[str]]:
    """The versions that a lock pins, by the package's name; several where they depend on the platform."""
    found: dict[str, set[str]] = {}
    for name, pinned in _PINNED.findall(path.read_text(encoding="utf-8")):
        found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(pinned)
    return found
