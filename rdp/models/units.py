"""Droppable units: what of a network is computed, and what is trained, in one iteration.

A unit is a residual branch, or all branches of a block together. `Units` finds the gates of a network (its own,
or those that `rdp.models.blocks` puts into timm's blocks), sorts parameters into one group a unit and one for the
rest (stem, down-sampling, head), and applies an `Iteration` to them.
"""

from collections import Counter
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rdp.errors import UserError
from rdp.methods.iteration import FULL, FrozenNorm, Iteration
from rdp.models import blocks
from rdp.models.gates import Gate, GatedBranch


class Group:
    """What is frozen or trained together: parameters, and the layers that keep running statistics."""

    def __init__(self, parameters: list[nn.Parameter], modules: list[nn.Module]) -> None:
        # What the user froze before stays frozen.
        self.parameters = [p for p in parameters if p.requires_grad]
        self.norms = [m for m in modules if isinstance(m, _NormBase) and m.track_running_stats]


class _Found(NamedTuple):
    """One branch of a network, before branches are made units."""

    name: str
    gate: Gate
    parameters: list[nn.Parameter]
    modules: list[nn.Module]


class Units:
    """The units of a network, in the order of its forward pass, and what is trained outside them.

    Args:
        network: a network of this project, or any whose blocks `rdp.models.blocks` can put gates into. It keeps
            those gates until `restore`.
        granularity: ``branch`` or ``block``: what is one unit.
        take_over: whether droppath modules of the network's own that are on are switched off; else refused.

    Attributes:
        blocks: the modules that own branches.
        names: of the units; where a block has several branches, with the name of the module that ends the branch.
        gates: one list of gates a unit.
        groups: one a unit, and the rest's last.

    Raises:
        UserError: a block whose branches cannot be told, or whose own droppath is on.
    """

    def __init__(self, network: nn.Module, granularity: str = "branch", *, take_over: bool = False) -> None:
        self.network = network
        self.blocks: list[nn.Module] = []
        self._changed: list[nn.Module] = []
        self._inplace: list[nn.Module] = []
        self._altered: list[tuple[nn.Module, str]] = []
        try:
            found = self._find(take_over)
        except UserError:
            self.ungate()
            raise
        merged: dict[str, list[_Found]] = {}
        for owner, branches in found:
            for branch in branches:
                merged.setdefault(owner if granularity == "block" else branch.name, []).append(branch)
        units = list(merged.values())
        self.names = list(merged)
        self.gates = [[branch.gate for branch in unit] for unit in units]
        self.groups = self._group(units)
        self._trained = [True] * len(self.groups)
        if self._changed:
            self._stop_overwriting(units)

    def __len__(self) -> int:
        return len(self.gates)

    def _find(self, take_over: bool) -> list[tuple[str, list[_Found]]]:
        """The branches of each block, by the block's name."""
        found = []
        for name, module in self.network.named_modules():
            if isinstance(module, GatedBranch):
                branch = module.branch
                here = [_Found(name, module.gate, list(branch.parameters()), list(branch.modules()))]
            elif blocks.branch_ends(module):
                here = self._open(name, module, take_over)
            else:
                continue
            if here:
                self.blocks.append(module)
                found.append((name, here))
        return found

    def _open(self, name: str, block: nn.Module, take_over: bool) -> list[_Found]:
        on = {end: p for end in blocks.branch_ends(block) if (p := blocks.drop_probability(block, end)) > 0}
        if on and not take_over:
            end, probability = next(iter(on.items()))
            raise UserError(
                f"{name}.{end}: the model drops paths itself, with probability {probability:.3g}; build it with "
                "drop_path_rate=0, or hand its droppath over with take_over=True: nothing is dropped twice"
            )
        fresh = not blocks.is_gated(block)
        branches = blocks.gate(block)
        if branches and fresh:
            self._changed.append(block)
            blocks.silence(block)
        names = [name if len(branches) == 1 else f"{name}.{branch.end}" for branch in branches]
        if len(set(names)) < len(names):  # one droppath module behind several branches
            names = [f"{name}.{number}" for number, name in enumerate(names, start=1)]
        return [_Found(n, b.gate, b.parameters, b.modules) for n, b in zip(names, branches, strict=True)]

    def _stop_overwriting(self, units: list[list[_Found]]) -> None:
        """Where a branch is dropped, its block hands on the very tensor that it read, which nothing may overwrite."""
        inside = {id(module) for unit in units for branch in unit for module in branch.modules}
        outside = [module for module in self.network.modules() if id(module) not in inside]
        self._inplace = [module for module in outside if getattr(module, "inplace", False)]
        for module in self._inplace:
            module.inplace = False

    def _group(self, units: list[list[_Found]]) -> list[Group]:
        groups, owned = [], set()
        uses = Counter(key for unit in units for key in {id(p) for branch in unit for p in branch.parameters})
        held = Counter(id(p) for module in self.network.modules() for p in module._parameters.values() if p is not None)
        for unit in units:
            modules = {id(module): module for branch in unit for module in branch.modules}
            here = Counter(id(p) for m in modules.values() for p in m._parameters.values() if p is not None)
            # A parameter that others hold too cannot be frozen for this unit alone: it goes with the rest.
            parameters = {id(p): p for branch in unit for p in branch.parameters}
            own = [p for key, p in parameters.items() if uses[key] == 1 and held[key] == max(here[key], 1)]
            groups.append(Group(own, list(modules.values())))
            owned |= {id(p) for p in own} | modules.keys()
        rest = [p for p in self.network.parameters() if id(p) not in owned]
        return [*groups, Group(rest, [m for m in self.network.modules() if id(m) not in owned])]

    def require(self) -> None:
        """Raise `UserError` for a network without units, naming the blocks it is made of."""
        if len(self):
            return
        seen = Counter(type(m).__name__ for m in self.network.modules() if list(m.children()) and m is not self.network)
        told = ", ".join(f"{name} ({count})" for name, count in seen.most_common(8)) or "none"
        raise UserError(
            f"{type(self.network).__name__}: no residual branch to drop was found; blocks seen: {told}. A block "
            "whose branch does not end in a DropPath is named with rdp.register_block(ItsClass, 'child that ends "
            "the branch')"
        )

    def apply(self, iteration: Iteration, device: torch.device | str = "cpu") -> None:
        """Set what is computed and trained until the next call.

        A frozen parameter gets ``requires_grad = False``, so its gradient is neither computed nor, after
        ``zero_grad(set_to_none=True)``, present: a gradient of zero would still move it through momentum and
        weight decay.
        """
        self._set_active(iteration, device)
        trained = [True] * len(self) if iteration.trained is None else iteration.trained.tolist()
        trained.append(iteration.rest_trained)
        for group, now, before in zip(self.groups, trained, self._trained, strict=True):
            if now != before:
                for parameter in group.parameters:
                    parameter.requires_grad_(now)
        self._trained = trained
        self._set_norms(iteration.frozen_norm)

    def _set_active(self, iteration: Iteration, device: torch.device | str) -> None:
        active, scale = iteration.active, iteration.scale
        if active is None and scale is None:
            for gates in self.gates:
                for gate in gates:
                    gate.open()
            return
        factors = [1.0] * len(self) if scale is None else scale.tolist()
        if active is not None and active.ndim == 2:
            table = torch.from_numpy(active).to(device, torch.float32)
            table *= torch.tensor(factors, device=device)[:, None]
            for gates, row in zip(self.gates, table, strict=True):
                for gate in gates:
                    gate.active, gate.factor = True, row
            return
        for i, gates in enumerate(self.gates):
            for gate in gates:
                gate.active = active is None or bool(active[i])
                gate.factor = None if factors[i] == 1.0 else factors[i]

    def _set_norms(self, frozen: FrozenNorm) -> None:
        for norm, name in self._altered:
            # The user may have called train() or eval() since, which stands.
            setattr(norm, name, name != "training" or self.network.training)
        self._altered = []
        if frozen == "update":
            return
        name = "training" if frozen == "eval" else "track_running_stats"
        for group, trained in zip(self.groups, self._trained, strict=True):
            for norm in group.norms if not trained else ():
                if getattr(norm, name):
                    self._altered.append((norm, name))
                    setattr(norm, name, False)

    def frozen(self) -> list[nn.Parameter]:
        """The parameters that the current iteration does not train."""
        pairs = zip(self.groups, self._trained, strict=True)
        return [p for group, trained in pairs if not trained for p in group.parameters]

    def release(self) -> None:
        """Everything active, everything trained."""
        self.apply(FULL)

    def restore(self) -> None:
        """Leave the network as it was found: its blocks' own classes, droppath modules and settings."""
        self.release()
        self.ungate()

    def ungate(self) -> None:
        """Take out the gates that this put in, and no others."""
        for block in self._changed:
            blocks.ungate(block)
        for module in self._inplace:
            module.inplace = True
        self._changed, self._inplace = [], []
