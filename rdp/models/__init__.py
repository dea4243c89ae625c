"""Architectures: one file a family.

A family's file holds a literal ``ARCHITECTURES`` (name -> arguments of its ``build``) and ``INPUT`` (``image``
or ``vector``), which are read here without importing the file: planning a study must not import torch. To add
an architecture, add an entry or a file; nothing else names it.
"""

import ast
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdp.errors import UserError, choices

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A named member of a family: which file builds it, with which arguments, from which kind of input."""

    name: str
    module: str
    arguments: dict[str, Any]
    input: str


def _literals(file: Path) -> dict[str, Any]:
    """The module-level assignments of ``ARCHITECTURES`` and ``INPUT`` in a family's file."""
    found = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in {"ARCHITECTURES", "INPUT"}:
                found[name] = ast.literal_eval(node.value)
    return found


@cache
def architectures() -> dict[str, Architecture]:
    """All architectures by name, without importing torch."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        literals = _literals(file)
        for name, arguments in literals.get("ARCHITECTURES", {}).items():
            found[name] = Architecture(name, f"{__name__}.{file.stem}", arguments, literals["INPUT"])
    return found


def architecture(name: str) -> Architecture:
    """The architecture called ``name``; raises `UserError` where there is none."""
    if name not in architectures():
        raise UserError(f"unknown architecture '{name}'; {choices(name, architectures())}")
    return architectures()[name]


def build(
    name: str,
    *,
    path: str,
    path_options: dict[str, object],
    norm_gain: float,
    input_shape: tuple[int, ...],
    classes: int,
    seed: int,
) -> "nn.Module":
    """Build a network with the initial weights of ``seed``.

    Args:
        name: an architecture's name.
        path: how a block's output meets its input: ``residual``, ``plain`` or ``pnnh``.
        path_options: options of the path's blocks (the variant of ``pnnh``).
        norm_gain: initial gain of the last normalisation of every branch or learner, for every path.
        input_shape: of one example: (channels, height, width) or (features,).
        classes: number of logits.
        seed: of the initial weights, which depend on nothing else and on each parameter's name alone, so
            that networks of different paths start alike wherever a name and a shape agree.
    """
    from rdp.models.initial import initialise

    family = architecture(name)
    network = importlib.import_module(family.module).build(
        **family.arguments,
        path=path,
        path_options=path_options,
        norm_gain=norm_gain,
        input_shape=input_shape,
        classes=classes,
    )
    initialise(network, seed)
    return network
