"""The lock file: the package versions that this project is installed with."""

import re
from pathlib import Path

LOCK = "envs/requirements.lock"  # in a checkout, and in the files of a wheel
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.M)


def pinned_versions(path: Path) -> dict[str, set[str]]:
    """Versions by normalised package name; several if they depend on the platform."""
    versions: dict[str, set[str]] = {}
    for name, version in _PIN.findall(path.read_text(encoding="utf-8")):
        versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(version)
    return versions
