"""Droppath modules of other libraries: timm's, torchvision's, transformers', and any child called drop_path…"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from rdp.errors import UserError

PREFIX = "drop_path"  # timm's name of a droppath child, followed by a number if there are several
_SUFFIXES = ("DropPath", "StochasticDepth")  # of the names of the classes
_PROBABILITIES = ("drop_prob", "p")


def is_droppath(name: str, child: nn.Module) -> bool:
    """Whether a child, by its name in its parent or the name of its class, is a droppath module."""
    is_named = name.startswith(PREFIX) and not isinstance(child, nn.Identity | nn.ModuleList)
    return is_named or (type(child).__name__.endswith(_SUFFIXES) and not any(child.children()))


def find(network: nn.Module) -> dict[str, nn.Module]:
    """The droppath modules that drop as their probability says, by name."""
    return {
        f"{path}.{name}" if path else name: child
        for path, parent in network.named_modules()
        for name, child in parent.named_children()
        if is_droppath(name, child) and not isinstance(child, _Silenced)
    }


def active(modules: dict[str, nn.Module]) -> Iterator[tuple[str, nn.Module, float]]:
    """Each droppath module with a probability above 0: its name, the module, and its probability.

    Raises `UserError` for one whose probability cannot be read.
    """
    for name, module in modules.items():
        if (probability := _probability(name, module)) > 0:
            yield name, module, probability


def _probability(name: str, child: nn.Module) -> float:
    for attribute in _PROBABILITIES:
        value = getattr(child, attribute, "")
        if value is None or isinstance(value, int | float):
            return float(value or 0)
    raise UserError(
        f"{name}: the probability of this droppath module, a {type(child).__name__}, cannot be read; it has no "
        f"attribute {' or '.join(_PROBABILITIES)}"
    )


class _Silenced(nn.Module):
    """Precedes the class of a droppath module in the MRO, and hands its input on. A copy drops as the original did."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        return object.__new__, (type(self).__mro__[2],), *reduced[2:]


def silence(module: nn.Module) -> None:
    """Make a droppath module hand its input on."""
    kind = type(module)
    module.__class__ = type(kind.__name__, (_Silenced, kind), {})


def restore(module: nn.Module) -> None:
    """Undo `silence`."""
    module.__class__ = type(module).__mro__[2]
