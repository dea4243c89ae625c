"""Probes: measurements on a network, trained or at initialisation.

A probe is one file in `rdp.probes.measures` or in ``extensions/probes/`` (see `rdp.utils.extensions`). It defines

- ``measure(subject)``: the rows of its table, a list of mappings,
- ``COLUMNS``: the keys of a row,
- ``MEASURES``: what it looks for in a network, for the message of `rdp.probe` if there is none,
- ``SEEDS`` (optional): the number of seeds per cell that it measures at most,
- ``EXAMPLES`` (optional): the number of examples that it reads, if not the usual number.

`rdp.tables.measurements` applies probes to stored weights, so a new probe retrains nothing.
"""

from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from rdp.errors import UserError, choices
from rdp.probes import measures
from rdp.utils import extensions

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Subject:
    """What a probe measures. A probe leaves the networks unchanged, and modifies copies only.

    Attributes:
        network: of one run, trained or at initialisation.
        x: normalised examples of the test split, shape (n, …).
        y: their labels, shape (n,).
        other: the network of another seed of the same cell at the same stage, trained independently; None if the
            cell has one run.
        trained: whether the network is trained.
        layers: names of the modules to measure, instead of those that the probe finds.
    """

    network: "nn.Module"
    x: "torch.Tensor"
    y: "torch.Tensor"
    other: "nn.Module | None" = None
    trained: bool = True
    layers: tuple[str, ...] | None = None


@cache
def available() -> tuple[str, ...]:
    """The names of all probes, sorted, without importing any."""
    return tuple(sorted(extensions.modules(measures)))


def probe_module(name: str) -> ModuleType:
    """The module of the probe called ``name``; raises `UserError` if there is none."""
    if name not in available():
        raise UserError(f"unknown probe '{name}'; {choices(name, available())}")
    return extensions.load(f"{__name__}.measures.{name}", "measure", "COLUMNS")


def seed_limit(probe: ModuleType, limit: int | None) -> int | None:
    """The number of seeds per cell to measure: the study's limit or the probe's, whichever is less; None for all."""
    return min((number for number in (limit, getattr(probe, "SEEDS", None)) if number is not None), default=None)


def example_limit(probe: ModuleType, default: int) -> int:
    """The number of test examples that a probe reads at most: its ``EXAMPLES`` or the default."""
    limit: int = getattr(probe, "EXAMPLES", default)
    return limit
