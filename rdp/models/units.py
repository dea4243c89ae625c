"""Droppable units: the branches of a network that an iteration computes, and the parameters that it trains."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rdp.errors import UserError
from rdp.methods import FULL, FrozenNorm, Iteration
from rdp.models import blocks
from rdp.models.blocks import Branch
from rdp.models.branch_ends import branch_ends, drop_probability
from rdp.models.gates import GatedBranch


class Group:
    """Parameters that are trained together, but those that the user froze, and the norms with running statistics."""

    def __init__(self, parameters: list[nn.Parameter], modules: list[nn.Module]) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.norms = [m for m in modules if isinstance(m, _NormBase) and m.track_running_stats]


class Units:
    """The units of a network, in the order of its forward pass.

    A unit is a residual branch, or all branches of a block, by ``granularity``. Blocks of other libraries get gates
    until `restore`. With ``take_over``, active droppath modules are switched off; by default the network is refused. So
    is a block whose branches cannot be separated.

    Attributes:
        blocks: the modules that own branches.
        names: one per unit: its block's name, with the name of the branch's last module if the block has several.
        gates: one list of gates per unit.
        groups: parameters and norms of each unit, and last those of the rest (stem, down-sampling, head).
        tensor_scales: whether factors on branches are given as tensors, because torch.compile would compile a block for
            each value of a number.
    """

    def __init__(self, network: nn.Module, granularity: str = "branch", *, take_over: bool = False) -> None:
        self.network = network
        self.tensor_scales = False
        self.blocks: list[nn.Module] = []
        self._gated: list[nn.Module] = []
        self._was_in_place: list[Any] = []
        self._changed_norms: list[tuple[nn.Module, str]] = []
        branches: dict[str, list[Branch]] = {}
        try:
            for block, name, branch in self._find_branches(take_over):
                branches.setdefault(block if granularity == "block" else name, []).append(branch)
        except UserError:
            self.ungate()
            raise
        units = list(branches.values())
        self.names = list(branches)
        self.gates = [[branch.gate for branch in unit] for unit in units]
        self.groups = self._group(units)
        self._trained = [True] * len(self.groups)
        if self._gated:
            self._avoid_in_place(units)

    def __len__(self) -> int:
        return len(self.gates)

    def _find_branches(self, take_over: bool) -> Iterator[tuple[str, str, Branch]]:
        """All branches, each with its block's name and its own."""
        for block, module in self.network.named_modules():
            if isinstance(module, GatedBranch):
                branches = [Branch("", [module.branch], [], module.gate)]
            else:
                branches = self._gate_block(block, module, take_over) if branch_ends(module) else []
            if branches:
                self.blocks.append(module)
            names = [block if len(branches) == 1 else f"{block}.{branch.end}" for branch in branches]
            if len(set(names)) < len(names):  # several branches end in the same droppath module
                names = [f"{name}.{number}" for number, name in enumerate(names, start=1)]
            for name, branch in zip(names, branches, strict=True):
                yield block, name, branch

    def _gate_block(self, name: str, block: nn.Module, take_over: bool) -> list[Branch]:
        active = {end: p for end in branch_ends(block) if (p := drop_probability(block, end)) > 0}
        if active and not take_over:
            end, probability = next(iter(active.items()))
            raise UserError(
                f"{name}.{end}: the model's own droppath is active, with probability {probability:.3g}; build the "
                "model with drop_path_rate=0, or pass take_over=True to switch it off"
            )
        had_gates = blocks.is_gated(block)
        branches = blocks.gate(block)
        if branches and not had_gates:
            self._gated.append(block)
        return branches

    def _avoid_in_place(self, units: list[list[Branch]]) -> None:
        """Make modules outside branches work out of place: a block without its branch returns its input tensor."""
        inside = {id(module) for unit in units for branch in unit for module in branch.modules}
        outside = [module for module in self.network.modules() if id(module) not in inside]
        self._was_in_place = [module for module in outside if getattr(module, "inplace", False)]
        for module in self._was_in_place:
            module.inplace = False

    def _group(self, units: list[list[Branch]]) -> list[Group]:
        groups: list[Group] = []
        owned: set[int] = set()
        uses = Counter(key for unit in units for key in {id(p) for branch in unit for p in branch.parameters})
        holders = _count_holders(self.network.modules())
        for unit in units:
            modules = {id(module): module for branch in unit for module in branch.modules}
            inside = _count_holders(modules.values())
            # A parameter with users outside the unit cannot be frozen with it, so it belongs to the rest.
            parameters = {id(p): p for branch in unit for p in branch.parameters}
            own = [p for key, p in parameters.items() if uses[key] == 1 and holders[key] == max(inside[key], 1)]
            groups.append(Group(own, list(modules.values())))
            owned |= {id(p) for p in own} | modules.keys()
        rest = [p for p in self.network.parameters() if id(p) not in owned]
        return [*groups, Group(rest, [m for m in self.network.modules() if id(m) not in owned])]

    def require(self) -> None:
        """Raise `UserError` if the network has no units, and name its blocks."""
        if len(self):
            return
        kinds = Counter(
            type(m).__name__ for m in self.network.modules() if list(m.children()) and m is not self.network
        )
        names = ", ".join(f"{name} ({count})" for name, count in kinds.most_common(8)) or "none"
        raise UserError(
            f"{type(self.network).__name__}: no residual branch to drop was found; its blocks: {names}. For a block "
            "whose branch does not end in a DropPath, call rdp.register_block(ItsClass, 'child that ends the branch')"
        )

    def apply(self, iteration: Iteration, device: torch.device | str = "cpu") -> None:
        """Set the computed branches and trained parameters, until the next call.

        A frozen parameter gets ``requires_grad = False``. So its gradient is not computed, and is None after
        ``zero_grad(set_to_none=True)``. A zero gradient would still move it through momentum and weight decay.
        """
        self._set_active(iteration, device)
        trained = [True] * len(self) if iteration.trained is None else iteration.trained.tolist()
        trained.append(iteration.rest_trained)
        for group, is_trained, was_trained in zip(self.groups, trained, self._trained, strict=True):
            if is_trained != was_trained:
                for parameter in group.parameters:
                    parameter.requires_grad_(is_trained)
        self._trained = trained
        self._set_norms(iteration.frozen_norm)

    def _set_active(self, iteration: Iteration, device: torch.device | str) -> None:
        active, scale = iteration.active, iteration.scale
        if active is None and scale is None:
            for gates in self.gates:
                for gate in gates:
                    gate.open()
            return
        scales = [1.0] * len(self) if scale is None else scale.tolist()
        if active is not None and active.ndim == 2:
            table = torch.from_numpy(active).to(device, torch.float32)
            table *= torch.tensor(scales, device=device)[:, None]
            for gates, row in zip(self.gates, table, strict=True):
                for gate in gates:
                    gate.active, gate.scale = True, row
            return
        tensors = None
        if self.tensor_scales and scale is not None:
            tensors = torch.from_numpy(scale).to(device, torch.float32)
        for i, gates in enumerate(self.gates):
            for gate in gates:
                gate.active = active is None or bool(active[i])
                gate.scale = (None if scales[i] == 1.0 else scales[i]) if tensors is None else tensors[i]

    def _set_norms(self, frozen: FrozenNorm) -> None:
        for norm, name in self._changed_norms:
            # A call of train() or eval() since then takes precedence.
            setattr(norm, name, name != "training" or self.network.training)
        self._changed_norms = []
        if frozen == "update":
            return
        name = "training" if frozen == "eval" else "track_running_stats"
        for group, trained in zip(self.groups, self._trained, strict=True):
            for norm in group.norms if not trained else ():
                if getattr(norm, name):
                    self._changed_norms.append((norm, name))
                    setattr(norm, name, False)

    def frozen(self) -> list[nn.Parameter]:
        """The parameters that the current iteration does not train."""
        pairs = zip(self.groups, self._trained, strict=True)
        return [p for group, trained in pairs if not trained for p in group.parameters]

    def release(self) -> None:
        """Compute all branches and train all parameters."""
        self.apply(FULL)

    def restore(self) -> None:
        """Undo every change to the network: classes of blocks, droppath modules and settings."""
        self.release()
        self.ungate()

    def ungate(self) -> None:
        """Remove the gates that this object added, and no others."""
        for block in self._gated:
            blocks.ungate(block)
        for module in self._was_in_place:
            module.inplace = True
        self._gated, self._was_in_place = [], []


def _count_holders(modules: Iterable[nn.Module]) -> Counter[int]:
    """How many modules hold each parameter, by the parameter's id."""
    return Counter(id(p) for module in modules for p in module._parameters.values() if p is not None)
