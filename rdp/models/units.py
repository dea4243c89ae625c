"""Droppable units: what of a network is computed, and what is trained, in one iteration.

A unit is a residual branch. The block that owns the branch holds a `Gate` and asks it in ``forward`` whether
to compute the branch and by how much to scale it. `Units` finds the gates of a network, sorts its parameters
into one group a unit and one for the rest (stem, down-sampling, head), and applies an `Iteration` to them.
"""

from collections.abc import Iterator

import torch
from torch import nn

from rdp.methods.iteration import FULL, Iteration


class Gate:
    """How one residual branch takes part in the current iteration.

    Attributes:
        active: whether the branch is computed at all.
        factor: what its output is multiplied with: None for one, a float for the whole mini-batch, or a
            tensor of shape (batch,) for each example of its own.
    """

    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Take part in full."""
        self.active = True
        self.factor: float | torch.Tensor | None = None

    def join(self, stream: torch.Tensor, branch: nn.Module) -> torch.Tensor:
        """``stream + factor * branch(stream)``, or ``stream`` itself where the branch is dropped."""
        return self.add(stream, stream, branch)

    def add(self, shortcut: torch.Tensor, stream: torch.Tensor, branch: nn.Module) -> torch.Tensor:
        """As `join`, for a shortcut that is not the branch's own input (down-sampling)."""
        if not self.active:
            return shortcut
        output = branch(stream)
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


class Units:
    """The units of a network, in the order of its forward pass, and what is trained outside them."""

    def __init__(self, network: nn.Module) -> None:
        found = [(name, m) for name, m in network.named_modules() if isinstance(m, GatedBranch)]
        self.names = [name for name, _ in found]
        self.gates = [module.gate for _, module in found]
        self.groups = [list(module.branch.parameters()) for _, module in found]
        owned = {id(p) for group in self.groups for p in group}
        self.rest = [p for p in network.parameters() if id(p) not in owned]
        self._trained = [True] * (len(found) + 1)

    def __len__(self) -> int:
        return len(self.gates)

    def _all_groups(self) -> Iterator[list[nn.Parameter]]:
        yield from self.groups
        yield self.rest

    def apply(self, iteration: Iteration, device: torch.device | str = "cpu") -> None:
        """Set what is computed and trained until the next call.

        A frozen parameter gets ``requires_grad = False``, so its gradient is neither computed nor, after
        ``zero_grad(set_to_none=True)``, present: a gradient of zero would still move it through momentum and
        weight decay.
        """
        self._set_active(iteration, device)
        trained = [True] * len(self) if iteration.trained is None else iteration.trained.tolist()
        trained.append(iteration.rest_trained)
        for group, now, before in zip(self._all_groups(), trained, self._trained, strict=True):
            if now != before:
                for parameter in group:
                    parameter.requires_grad_(now)
        self._trained = trained

    def _set_active(self, iteration: Iteration, device: torch.device | str) -> None:
        active, scale = iteration.active, iteration.scale
        if active is None and scale is None:
            for gate in self.gates:
                gate.open()
            return
        factors = [1.0] * len(self) if scale is None else scale.tolist()
        if active is not None and active.ndim == 2:
            table = torch.from_numpy(active).to(device, torch.float32)
            table *= torch.tensor(factors, device=device)[:, None]
            for gate, row in zip(self.gates, table, strict=True):
                gate.active, gate.factor = True, row
            return
        for i, gate in enumerate(self.gates):
            gate.active = active is None or bool(active[i])
            gate.factor = None if factors[i] == 1.0 else factors[i]

    def release(self) -> None:
        """Leave the network as it was found: everything active, everything trained."""
        self.apply(FULL)
