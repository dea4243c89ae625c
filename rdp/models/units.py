"""Droppable units: the branches of a network that an iteration computes, and the parameters that it trains."""

import operator
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rdp.errors import UserError
from rdp.methods import FULL, FrozenNorm, Iteration
from rdp.models import blocks, droppath
from rdp.models.blocks import Branch
from rdp.models.finding import Found, is_declared, not_own


class Group:
    """Parameters that are trained together, and the norms with running statistics among their modules."""

    def __init__(self, parameters: list[nn.Parameter], modules: list[nn.Module]) -> None:
        self.parameters = parameters
        self.norms = [m for m in modules if isinstance(m, _NormBase) and m.track_running_stats]


class Units:
    """The units of a network, in the order of its forward pass.

    A unit is a residual branch, or all branches of a block, by ``granularity``. Blocks of other libraries get gates
    until `restore`. With ``take_over``, active droppath modules are switched off; by default the network is refused. So
    is a block whose branches cannot be separated. ``example`` is an input of the network, as in `Schedule`.

    Attributes:
        blocks: the modules that own branches.
        names: one per unit: its block's name, with the name of the branch's last module if the block has several.
        gates: one list of gates per unit.
        groups: parameters and norms of each unit, and last those of the rest (stem, down-sampling, head).
        skipped: for the name of each module whose branches were left out, the reason.
        tensor_scales: whether factors on branches are given as tensors, because torch.compile would compile a block for
            each value of a number.
    """

    def __init__(
        self, network: nn.Module, granularity: str = "branch", *, take_over: bool = False, example: Any = None
    ) -> None:
        self.network = network
        self.tensor_scales = False
        self._changed_norms: list[tuple[nn.Module, str]] = []
        self._frozen: list[nn.Parameter] = []
        self._silenced: list[nn.Module] = []
        self._droppaths = droppath.find(network)
        if not take_over:
            self._check_droppath()
        self._found = Found(network, example)
        self.blocks = [block.module for block in self._found.blocks]
        self._kinds = {blocks.own_class(block) for block in self.blocks}
        self._known = {id(module) for module in network.modules() if self._may_hold_units(module)}
        self.skipped = self._found.skipped
        branches: dict[str, list[Branch]] = {}
        for block in self._found.blocks:
            for name, branch in zip(_branch_names(block.name, block.branches), block.branches, strict=True):
                branches.setdefault(block.name if granularity == "block" else name, []).append(branch)
        self._branches = list(branches.values())
        self.names = list(branches)
        self.gates = [[branch.gate for branch in unit] for unit in self._branches]
        self.groups = self._group()
        self._trained = [True] * len(self.groups)
        self._iteration, self._training = FULL, True
        self._device: torch.device | str = "cpu"
        self._structure = self._read_structure()
        try:
            self._check_parameters()
        except UserError:
            self.ungate()
            raise
        self._silenced = list({id(module): module for _, module, _ in droppath.active(self._droppaths)}.values())
        for module in self._silenced:
            droppath.silence(module)
        self._droppaths = droppath.find(network)

    def __len__(self) -> int:
        return len(self.gates)

    def refresh(self) -> None:
        """Follow changes of the network since the last call: new layers, replaced parameters, changed attributes.

        Raises `UserError` if a block with branches or its forward method was replaced, such a block was added, or a
        droppath module has become active.
        """
        structure = self._read_structure()
        if len(structure) != len(self._structure) or not all(map(operator.is_, structure, self._structure)):
            self._follow(structure)
        for block in self._found.blocks:
            blocks.refresh(block.module, block.name)
        self._check_droppath()

    def _may_hold_units(self, module: nn.Module) -> bool:
        """Whether a module declares branches, or has the class of a block that was found."""
        return is_declared(module) or blocks.own_class(module) in self._kinds

    def _follow(self, structure: list[Any]) -> None:
        """Sort the parameters anew, and refuse blocks that were replaced or added."""
        advice = "close the schedule, and make it after the change"
        modules = {id(module): name for name, module in self.network.named_modules()}
        for block in self._found.blocks:
            if id(block.module) not in modules or not blocks.branches_of(block.module):
                raise UserError(f"{block.name}: this block was replaced while a schedule controls it; {advice}")
        for module in self.network.modules():
            if id(module) not in self._known and self._may_hold_units(module):
                raise UserError(f"{modules[id(module)]}: this block was added while a schedule is active; {advice}")
        self._droppaths = droppath.find(self.network)
        self.groups = self._group()
        self._check_parameters()
        self._structure = structure

    def _read_structure(self) -> list[Any]:
        """All modules and parameters, for comparison by identity."""
        return [
            value
            for module in self.network.modules()
            for value in (*module._modules.values(), *module._parameters.values())
        ]

    def _check_droppath(self) -> None:
        for name, _, probability in droppath.active(self._droppaths):
            raise UserError(
                f"{name}: the model's own droppath is active, with probability {probability:.3g}; build the model with "
                "drop_path_rate=0, or pass take_over=True to switch it off"
            )

    def _group(self) -> list[Group]:
        """Sort the parameters by unit; those with users outside their unit cannot be frozen with it."""
        groups: list[Group] = []
        owned: set[int] = set()
        uses = Counter(key for unit in self._branches for key in {id(p) for branch in unit for p in branch.parameters})
        holders, parents = _count_holders(self.network.modules()), _count_parents(self.network.modules())
        for unit in self._branches:
            modules = {id(module): module for branch in unit for module in branch.modules}
            inside = _count_holders(modules.values())
            inside_parents = _count_parents(modules.values())
            inside_parents.update(id(child) for branch in unit for child in branch.children)
            shared = {
                id(p)
                for key, module in modules.items()
                if parents[key] > inside_parents[key]
                for p in module.parameters()
            }
            parameters = {id(p): p for branch in unit for p in branch.parameters}
            own = [
                p
                for key, p in parameters.items()
                if uses[key] == 1 and holders[key] == max(inside[key], 1) and key not in shared
            ]
            groups.append(Group(own, list(modules.values())))
            owned |= {id(p) for p in own} | modules.keys()
        rest = [p for p in self.network.parameters() if id(p) not in owned]
        return [*groups, Group(rest, [m for m in self.network.modules() if id(m) not in owned])]

    def inconstant(self) -> dict[str, str]:
        """The names of blocks that were left out because they change from call to call, with the reason."""
        return {name: self.skipped[name] for name in self._found.inconstant}

    def undeclared(self) -> list[str]:
        """The names of modules with residual branches that nothing declares, beside blocks that declare theirs."""
        return self._found.undeclared(self.network)

    def untraced(self) -> list[str]:
        """The names of modules with several layers whose forward passes could not be traced, see `Found.untraced`."""
        return self._found.untraced(self.network)

    def _check_parameters(self) -> None:
        for name, group in zip(self.names, self.groups[:-1], strict=True):
            if not group.parameters:
                raise not_own(name)

    def require(self) -> None:
        """Raise `UserError` if the network has no units, and name its blocks."""
        if len(self):
            return
        kinds = Counter(
            type(m).__name__ for m in self.network.modules() if list(m.children()) and m is not self.network
        )
        names = ", ".join(f"{name} ({count})" for name, count in kinds.most_common(8)) or "none"
        reasons = "; ".join(dict.fromkeys(self.skipped.values()))
        hint = "For a block whose branch no rule finds, call rdp.register_block(ItsClass, 'child that ends the branch')"
        raise UserError(
            f"{type(self.network).__name__}: no residual branch to drop was found; its blocks: {names}. "
            + (f"Left out: {reasons}. {hint}" if reasons else hint)
        )

    def apply(self, iteration: Iteration, device: torch.device | str = "cpu") -> None:
        """Set the computed branches and trained parameters, until the next call.

        A frozen parameter gets ``requires_grad = False``. So its gradient is not computed, and is None after
        ``zero_grad(set_to_none=True)``. A zero gradient would still move it through momentum and weight decay. The next
        call, or `release`, trains it again. What the user froze stays as it is.
        """
        self._iteration, self._device, self._training = iteration, device, True
        self._set_active(iteration, device)
        trained = [True] * len(self) if iteration.trained is None else iteration.trained.tolist()
        self._trained = [*trained, iteration.rest_trained]
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        untrained = (group for group, is_trained in zip(self.groups, self._trained, strict=True) if not is_trained)
        self._frozen = [p for group in untrained for p in group.parameters if p.requires_grad]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        self._set_norms(iteration.frozen_norm)

    def switch(self, training: bool) -> None:
        """Compute the branches of the iteration in training mode, and all of them in evaluation mode."""
        if training is not self._training:
            self._training = training
            self._set_active(self._iteration if training else FULL, self._device)

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
        """The parameters that the current iteration freezes."""
        return list(self._frozen)

    def release(self) -> None:
        """Compute all branches and train all parameters."""
        self.apply(FULL)

    def restore(self) -> None:
        """Undo every change to the network: classes of blocks and droppath modules, and settings."""
        self.release()
        self.ungate()

    def ungate(self) -> None:
        """Remove the gates that this object added, and no others; droppath modules drop again."""
        self._found.ungate()
        for module in self._silenced:
            droppath.restore(module)
        self._silenced = []


def _branch_names(block: str, branches: list[Branch]) -> list[str]:
    """The name of each branch of a block."""
    names = [block if len(branches) == 1 else f"{block}.{branch.end}".lstrip(".") for branch in branches]
    if len(set(names)) < len(names):  # several branches end in the same droppath module
        names = [f"{name}.{number}" for number, name in enumerate(names, start=1)]
    return names


def _count_holders(modules: Iterable[nn.Module]) -> Counter[int]:
    """How many modules hold each parameter, by the parameter's id."""
    return Counter(id(p) for module in modules for p in module._parameters.values() if p is not None)


def _count_parents(modules: Iterable[nn.Module]) -> Counter[int]:
    """How many modules have each module as a child, by the child's id."""
    return Counter(key for module in modules for key in {id(child) for child in module.children()})
