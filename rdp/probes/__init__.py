"""Probes: measurements on a network, trained or at initialisation. One file a probe."""

import pkgutil
from functools import cache


@cache
def available() -> tuple[str, ...]:
    """The names of all probes, without importing any of them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
