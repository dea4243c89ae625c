"""Probes: measurements on a network, trained or at initialisation.

One file a probe, which defines ``measure(network, x) -> rows`` with one mapping a layer. To add a probe, add a
file; `rdp.measure` applies it to the weights that runs left, so it retrains nothing.
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from rdp.errors import UserError, choices

if TYPE_CHECKING:
    import torch
    from torch import nn


@cache
def available() -> tuple[str, ...]:
    """The names of all probes, without importing any of them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def probe(name: str) -> "Callable[[nn.Module, torch.Tensor], list[dict[str, Any]]]":
    """The measuring function of the probe called ``name``."""
    if name not in available():
        raise UserError(f"unknown probe '{name}'; {choices(name, available())}")
    return importlib.import_module(f"{__name__}.{name}").measure
