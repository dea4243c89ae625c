"""Gates: whether and at what scale a residual branch takes part in the current iteration.

The module that owns a branch calls its `Gate` in ``forward``. `rdp.models.blocks` adds gates to other libraries'
blocks.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rdp.errors import UserError


class Gate:
    """The state of one residual branch in the current iteration.

    Attributes:
        active: whether the branch is computed.
        scale: factor on its output: None for 1, a float, a tensor without dimensions, or one of shape (batch,) with one
            factor per example.
        override: for measurements: called as ``override(shortcut, branch, inputs)`` in place of the addition.
        in_use: whether a schedule of `rdp.models.schedule` controls the gate.
    """

    def __init__(self) -> None:
        self.in_use = False
        self.open()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Gate":
        """A fresh gate: a copied network (an average of weights, say) belongs to no schedule."""
        return Gate()

    def open(self) -> None:
        """Compute the branch at full scale."""
        self.active = True
        self.scale: float | torch.Tensor | None = None
        self.override: Callable[..., torch.Tensor] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the branch is computed at full scale, without an override."""
        return self.active and self.scale is None and self.override is None

    def add(self, shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        """Return ``shortcut + scale * branch(*inputs)``, or ``shortcut`` itself if the branch is dropped.

        Raises `UserError` if the number of examples is not that of the scale.
        """
        if self.override is not None:
            return self.override(shortcut, branch, inputs)
        if not self.active:
            return shortcut
        output = branch(*inputs)
        if self.scale is None:
            return shortcut + output
        if isinstance(self.scale, torch.Tensor):
            scale = self.scale
            if scale.dim() > 0:
                if len(scale) != len(output):  # one of them 1 would be expanded to the other
                    raise UserError(
                        f"schedule.iteration: batch_size={len(scale)}, but a residual branch returns {len(output)} "
                        "examples; pass batch_size=len(x), the examples of each mini-batch"
                    )
                scale = scale.to(output.dtype).view(-1, *[1] * (output.dim() - 1))
            return shortcut + output * scale
        return torch.add(shortcut, output, alpha=self.scale)


class GatedBranch(nn.Module):
    """A droppable residual branch, ``relu(shortcut(x) + branch(x))``, with its gate.

    Args:
        branch: from x to a tensor of the shape of the shortcut; a child called ``branch``.
        relu: a rectifier after the sum; by default none.
        shortcut: without parameters; by default the identity.
    """

    def __init__(self, branch: nn.Module, relu: nn.Module | None = None, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.relu, self.shortcut = branch, relu, shortcut
        self.gate = Gate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.gate.add(x if self.shortcut is None else self.shortcut(x), self.branch, x)
        return output if self.relu is None else self.relu(output)


class PlainBranch(nn.Module):
    """The plain counterpart of `GatedBranch`, without a shortcut. Equal parameter names give equal initial weights."""

    def __init__(self, branch: nn.Module, relu: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.relu = branch, relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.branch(x)
        return output if self.relu is None else self.relu(output)
