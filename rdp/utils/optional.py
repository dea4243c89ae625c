"""Extras: packages that only some commands need, and what to install where one is absent."""

import re
from importlib.metadata import requires

from rdp.errors import UserError


def extra_of(module: str) -> str | None:
    """The extra of this package that has a module's distribution, as pyproject.toml lists them; None for no extra.

    Packages of extras are called as their modules are.
    """
    package = module.partition(".")[0]
    for line in requires("rdp") or ():
        found = re.match(r"""([\w.-]+)[^;]*;.*\bextra == ['"](\w+)['"]""", line)
        if found and found[1].lower() == package:
            return found[2]
    return None


def absent(what: str, extra: str) -> UserError:
    """The error of what needs an extra that is not installed."""
    return UserError(f"{what} needs the packages of rdp[{extra}]: pip install 'rdp[{extra}]'")
