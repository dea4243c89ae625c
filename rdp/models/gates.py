"""Gates: how a residual branch takes part in the current iteration.

The block that owns a branch asks the branch's `Gate`, in ``forward``, whether to compute it and by how much to
scale it. This project's own blocks are `GatedBranch`es; `rdp.models.blocks` puts gates into anyone else's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Gate:
    """How one residual branch takes part in the current iteration.

    Attributes:
        active: whether the branch is computed at all.
        factor: what its output is multiplied with: None for one, a float for the whole mini-batch, or a
            tensor of shape (batch,) for each example of its own.
        instead: for measurements: called as ``instead(shortcut, branch, inputs)`` and returning the sum, in place
            of computing it.
        taken: whether a schedule of `rdp.models.schedule` has the gate.
    """

    def __init__(self) -> None:
        self.taken = False
        self.open()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Gate":
        """A copied network (an average of weights, say) belongs to no schedule and takes part in full."""
        return Gate()

    def open(self) -> None:
        """Take part in full."""
        self.active = True
        self.factor: float | torch.Tensor | None = None
        self.instead: Callable[..., torch.Tensor] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the branch takes part in full."""
        return self.active and self.factor is None and self.instead is None

    def add(self, shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        """``shortcut + factor * branch(*inputs)``, or ``shortcut`` itself where the branch is dropped."""
        if self.instead is not None:
            return self.instead(shortcut, branch, inputs)
        if not self.active:
            return shortcut
        output = branch(*inputs)
        if self.factor is None:
            return shortcut + output
        if isinstance(self.factor, torch.Tensor):
            factor = self.factor.to(output.dtype).view(-1, *[1] * (output.dim() - 1))
            return shortcut + output * factor
        return torch.add(shortcut, output, alpha=self.factor)


class GatedBranch(nn.Module):
    """A module that owns one droppable branch, ``self.branch``, and its ``self.gate``."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.gate = Gate()


class PlainBranch(nn.Module):
    """The plain counterpart: the same layers under the same name, ``self.branch``, and nothing to drop."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch
