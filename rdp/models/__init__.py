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

    ``arguments`` are those of the ``build`` in the family's ``module``. ``input`` is ``image`` or ``vector``.
    ``variants`` are the PNNH variants that it can have; None for all.
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
        """Why it cannot be built with this path for examples of this kind and shape; None if it can."""
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


def list_models() -> list[str]:
    """The names that `create_model` accepts, sorted.

    >>> import rdp
    >>> {"mlp32", "resnet56", "resnet50", "vit_tiny"} <= set(rdp.list_models())
    True
    """
    return sorted(architectures())


def create_model(
    name: str,
    *,
    path: str = "residual",
    input_shape: tuple[int, ...] = (3, 32, 32),
    classes: int = 10,
    norm_gain: float = 1.0,
    seed: int = 0,
    **options: object,
) -> "nn.Module":
    """Create a network of this project: residual, plain or PNNH (arXiv 2402.08645).

    An initial weight depends on ``seed`` and on its parameter's name and shape only, so networks of different paths
    start alike where names and shapes agree.

    Args:
        name: one of `list_models`.
        path: how a block combines its input and output: ``residual``, ``plain`` or ``pnnh``.
        input_shape: of one example: (channels, height, width) in pixels, or (features,) for an ``mlp``.
        classes: number of logits.
        norm_gain: initial gain of the norm that ends each branch or learner; in a transformer, of the norm in front
            of it.
        seed: of the initial weights.
        **options: of ``pnnh``, as in `set_path`.

    Returns:
        A network from (n, *input_shape) to logits, (n, classes); on the CPU, in training mode.

    Raises:
        UserError: an unknown name, path or option, or one that the network or the input shape does not support.

    >>> import rdp, torch
    >>> model = rdp.create_model("resnet20", path="pnnh", input_shape=(3, 16, 16))
    >>> model(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])
    """
    from rdp.models.initialisation import initialise
    from rdp.models.paths import NetworkConfig

    pnnh, member = PnnhOptions.read(options, path), architecture(name)
    if reason := member.mismatch(path, "image" if len(input_shape) == 3 else "vector", input_shape, options):
        raise UserError(reason)
    config = NetworkConfig(path, pnnh, norm_gain, tuple(input_shape), classes)
    network: nn.Module = extensions.load(member.module, "build").build(config, **member.arguments)
    initialise(network, seed)
    return network
