"""Architectures, one file per family in `rdp.models.families` or in ``extensions/architectures/``.

A family's file defines

- ``ARCHITECTURES``: for each name, the keyword arguments of its ``build``,
- ``INPUT``: ``image`` or ``vector``,
- ``VARIANTS`` (optional): the PNNH variants that it can build, if not all,
- ``build(config, **arguments)``: the network; ``config`` is a `rdp.models.paths.NetworkConfig`.

The first three are literals and are read without importing the file, because planning a study must not import torch.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from rdp.errors import UserError, choices
from rdp.methods.options import PnnhOptions
from rdp.models import families
from rdp.utils import extensions

if TYPE_CHECKING:
    from torch import nn


_DECLARED = ("ARCHITECTURES", "INPUT", "VARIANTS")


@dataclass(frozen=True)
class Architecture:
    """A named member of a family.

    Attributes:
        module: the module of its family.
        arguments: keyword arguments of the family's ``build``.
        input: ``image`` or ``vector``.
        variants: of PNNH layers that it can have; None for all.
    """

    name: str
    module: str
    arguments: dict[str, Any]
    input: str
    variants: tuple[str, ...] | None

    @property
    def family(self) -> str:
        """The name of its family's file."""
        return self.module.rpartition(".")[2]

    @property
    def depth(self) -> int:
        """The number of blocks of a transformer, else the first number in its name; 0 without one."""
        number = re.search(r"\d+", self.name)
        depth: int = self.arguments.get("depth") or int(number.group() if number else 0)
        return depth

    def mismatch(
        self, path: str, kind: str, shape: tuple[int, ...], path_options: dict[str, Any] | None = None
    ) -> str | None:
        """Why it cannot be built with this path for such examples; None if it can.

        Args:
            path: ``residual``, ``plain`` or ``pnnh``.
            kind: of the dataset: ``image``, ``vector`` or another.
            shape: of one example.
            path_options: of ``pnnh``.
        """
        if self.input == "image" and kind != "image":
            return f"{self.name} reads images, and the dataset holds {kind}s"
        if path == "pnnh":
            options = PnnhOptions.read(path_options or {})
            if self.variants and options.variant not in self.variants:
                return f"{self.name} has no {options.variant} form; valid: {', '.join(self.variants)}"
            for width in self.arguments.get("widths", [self.arguments.get("width")]):
                if reason := options.mismatch(width):
                    return f"{self.name}: {reason}"
        patch = self.arguments.get("patch", 1)
        if any(side % patch for side in shape[1:]):
            return f"{self.name} reads patches of {patch} x {patch} pixels, and the images have {shape[1]} x {shape[2]}"
        return None


@cache
def architectures() -> dict[str, Architecture]:
    """All architectures by name, without importing torch."""
    members: dict[str, Architecture] = {}
    for file in extensions.modules(families).values():
        literals = extensions.literals(file, _DECLARED)
        if missing := {"ARCHITECTURES", "INPUT"} - literals.keys():
            raise UserError(f"{file}: defines no {min(missing)}")
        for name, arguments in literals["ARCHITECTURES"].items():
            if name in members:
                raise UserError(f"{file}: architecture {name} is already in {members[name].family}.py; rename one")
            module, variants = f"{__name__}.families.{file.stem}", literals.get("VARIANTS")
            members[name] = Architecture(name, module, arguments, literals["INPUT"], variants)
    return members


def architecture(name: str) -> Architecture:
    """The architecture called ``name``; raises `UserError` if there is none."""
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
        path: how a block combines its input and output: ``residual``, ``plain`` or ``pnnh``.
        path_options: of ``pnnh``, see `rdp.methods.options.PnnhOptions`; empty for the other paths.
        norm_gain: initial gain of the last normalisation of every branch or learner, for every path.
        input_shape: of one example: (channels, height, width) or (features,).
        classes: number of logits.
        seed: of the initial weights. A weight depends on the seed and on its parameter's name and shape only, so
            networks of different paths start alike where names and shapes agree.

    Returns:
        A network from (batch, *input_shape) to logits, (batch, classes); on the CPU, in training mode.

    Raises:
        UserError: an unknown name, or a path or examples that the family does not support.
    """
    from rdp.models.initialisation import initialise
    from rdp.models.paths import NetworkConfig

    member = architecture(name)
    if reason := member.mismatch(path, "image" if len(input_shape) == 3 else "vector", input_shape, path_options):
        raise UserError(reason)
    config = NetworkConfig(path, PnnhOptions.read(path_options), norm_gain, input_shape, classes)
    network: nn.Module = extensions.load(member.module, "build").build(config, **member.arguments)
    initialise(network, seed)
    return network
