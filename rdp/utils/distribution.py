"""This project as an installed distribution: its name, version and extras."""

import re
from importlib import metadata

from rdp.errors import UserError

NAME = "residual-droppath"


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
