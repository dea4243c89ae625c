"""Architectures: one file a family.

A family's file holds a literal ``ARCHITECTURES`` (name -> arguments of its ``build``), ``INPUT`` (``image`` or
``vector``) and, where it does not build all of them, the ``VARIANTS`` of PNNH that it does. They are read here
without importing the file: planning a study must not import torch. To add an architecture, add an entry or a file;
nothing else names it.
"""

import importlib
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

# By name, so that nothing is loaded before it is used, and no run's code digest holds what no run uses.
_LIBRARY = {"fuse": "rdp.models.folding", "set_path": "rdp.models.convert"}


def __getattr__(name: str) -> Any:
    if name not in _LIBRARY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LIBRARY[name]), name)


@dataclass(frozen=True)
class Architecture:
    """A named member of a family.

    Attributes:
        module: the file that builds it.
        arguments: what it is built with.
        input: what it reads, ``image`` or ``vector``.
        variants: of PNNH layers that it can have; None for all.
    """

    name: str
    module: str
    arguments: dict[str, Any]
    input: str
    variants: tuple[str, ...] | None

    @property
    def family(self) -> str:
        """The name of the file that builds it."""
        return self.module.rpartition(".")[2]

    @property
    def depth(self) -> int:
        """Layers as its family counts them: blocks of a transformer, else the first number in its name; 0 for none."""
        named = re.search(r"\d+", self.name)
        return self.arguments.get("depth") or int(named.group() if named else 0)

    def mismatch(
        self, path: str, kind: str, shape: tuple[int, ...], path_options: dict[str, Any] | None = None
    ) -> str | None:
        """Why it cannot be built in this path for such examples, or None where it can."""
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
    found: dict[str, Architecture] = {}
    for file in extensions.modules(families).values():
        literals = extensions.literals(file, _DECLARED)
        if missing := {"ARCHITECTURES", "INPUT"} - literals.keys():
            raise UserError(f"{file}: defines no {min(missing)}")
        for name, arguments in literals["ARCHITECTURES"].items():
            if name in found:
                raise UserError(f"{file}: architecture {name} is already in {found[name].family}.py; rename one")
            module, variants = f"{__name__}.families.{file.stem}", literals.get("VARIANTS")
            found[name] = Architecture(name, module, arguments, literals["INPUT"], variants)
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
        path_options: of ``pnnh``, see `rdp.methods.options.PnnhOptions`; none of the other paths.
        norm_gain: initial gain of the last normalisation of every branch or learner, for every path.
        input_shape: of one example: (channels, height, width) or (features,).
        classes: number of logits.
        seed: of the initial weights, which depend on nothing else and on each parameter's name alone, so
            that networks of different paths start alike wherever a name and a shape agree.

    Raises:
        UserError: a path that the family has no form of, or examples that it cannot read.
    """
    from rdp.models.initial import initialise

    family = architecture(name)
    if reason := family.mismatch(path, "image" if len(input_shape) == 3 else "vector", input_shape, path_options):
        raise UserError(reason)
    network = extensions.load(family.module, "build").build(
        **family.arguments,
        path=path,
        path_options=path_options,
        norm_gain=norm_gain,
        input_shape=input_shape,
        classes=classes,
    )
    initialise(network, seed)
    return network
