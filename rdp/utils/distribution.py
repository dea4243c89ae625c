"""This project as an installed distribution: its name, version, extras and lock file."""

import re
from importlib import metadata
from pathlib import Path

from rdp.errors import UserError

NAME = "residual-droppath"
LOCK = "envs/requirements.lock"  # in a checkout, and in the files of a wheel
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.M)


def version() -> str:
    """Return the installed version."""
    return metadata.version(NAME)


def extra_of(module: str) -> str | None:
    """Return the extra that installs a module, or None if no extra does.

    The distributions in the extras of pyproject.toml have the names of their modules.
    """
    package = module.partition(".")[0]
    for requirement in metadata.requires(NAME) or ():
        match = re.match(r"""([\w.-]+)[^;]*;.*\bextra == ['"](\w+)['"]""", requirement)
        if match and match[1].lower() == package:
            return match[2]
    return None


def missing_extra(feature: str, extra: str) -> UserError:
    """Return the error to raise if a feature needs an extra that is not installed."""
    return UserError(f"{feature} needs the packages of {NAME}[{extra}]: pip install '{NAME}[{extra}]'")


def pinned_versions(path: Path) -> dict[str, set[str]]:
    """Versions by normalised package name; several if they depend on the platform."""
    versions: dict[str, set[str]] = {}
    for name, version in _PIN.findall(path.read_text(encoding="utf-8")):
        versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(version)
    return versions
