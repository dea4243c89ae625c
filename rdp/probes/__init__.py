"""Probes: measurements on a network, trained or at initialisation.

One file a probe, which defines ``measure(subject) -> rows``, a mapping each, ``COLUMNS``, the keys of a row,
``SEEDS`` where so many of a cell's seeds are enough, ``EXAMPLES`` where it reads another number of examples than
most, and ``MEASURES``, what it looks for in a network, which `rdp.probe` tells where there is none. To add a probe, add
a file; `rdp.tables.measurements` applies it to the weights that runs left, so it retrains nothing.
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
    """What a probe measures. It leaves the networks as they are, and works on copies where it must.

    Attributes:
        network: of one run, at initialisation or trained.
        x: normalised examples of the test split, shape (n, …).
        y: their labels, shape (n,).
        other: the network of another seed of the same cell at the same stage, trained independently; None where
            the cell has but one run.
        trained: whether the network is trained, or as it was initialised.
        layers: names of the modules to measure, in place of those that the probe finds.
    """

    network: "nn.Module"
    x: "torch.Tensor"
    y: "torch.Tensor"
    other: "nn.Module | None" = None
    trained: bool = True
    layers: tuple[str, ...] | None = None


@cache
def available() -> tuple[str, ...]:
    """The names of all probes, without importing any of them."""
    return tuple(sorted(extensions.modules(measures)))


def probe(name: str) -> ModuleType:
    """The module of the probe called ``name``."""
    if name not in available():
        raise UserError(f"unknown probe '{name}'; {choices(name, available())}")
    return extensions.load(f"{__name__}.measures.{name}", "measure", "COLUMNS")


def seeds(module: ModuleType, asked: int | None) -> int | None:
    """How many seeds of a cell a probe measures: what the study asks for, or fewer where the probe says ``SEEDS``."""
    limits = [limit for limit in (asked, getattr(module, "SEEDS", None)) if limit is not None]
    return min(limits, default=None)


def examples(module: ModuleType, default: int) -> int:
    """How many examples of the test split a probe reads at most: what it says in ``EXAMPLES``, else ``default``."""
    return getattr(module, "EXAMPLES", default)
