"""Finding the blocks with residual branches in a network, and adding gates to them."""

import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from rdp.errors import UserError
from rdp.models import blocks
from rdp.models.blocks import Branch
from rdp.models.branch_ends import branch_ends
from rdp.models.gates import GatedBranch
from rdp.models.recording import Example, items_in_use
from rdp.models.splitting import NoShortcut
from rdp.models.tracing import Inconstant, Ungateable, Untraceable

_PACKAGE = Path(__file__).parents[1]
# Containers and layers of torch, whose forward passes have no residual sums.
_NO_BLOCKS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.MultiheadAttention)


class Block(NamedTuple):
    """A block with gates: its name, the module, and its branches in order."""

    name: str
    module: nn.Module
    branches: list[Branch]


class Found:
    """The blocks of a network that got gates, and the modules that could not get any.

    Where the network declares the ends of branches, by droppath modules or registered names, these are its branches. In
    any other network, a branch is a function of a value that is added to the value.

    Attributes:
        blocks: in the order of the network's modules.
        gated: the modules that got their gates here.
        example: an input of the network, if one was given.
        inconstant: the names of blocks that were left out because they change from call to call, see `Inconstant`.
        skipped: for the name of each module that may have branches that were left out, the reason.
    """

    def __init__(self, network: nn.Module, example: Any = None) -> None:
        self.example = None if example is None else Example(network, example)
        self.blocks: list[Block] = []
        self.gated: list[nn.Module] = []
        self.skipped: dict[str, str] = {}
        self.inconstant: list[str] = []
        self._untraceable: list[str] = []
        try:
            refused = self._gate_declared(network)
            declared = bool(self.blocks)
            if not declared:
                self._gate_sums(network)
            self._check_refused(refused)
            self._sort(network)
            self._check_side_items(declared)
        except UserError:
            self.ungate()
            raise

    def ungate(self) -> None:
        """Remove the gates."""
        for module in self.gated:
            blocks.ungate(module)
        self.gated = []

    def undeclared(self, network: nn.Module) -> list[str]:
        """The names of modules that add a function of a value to the value outside of units; the network is none."""
        branches = {id(block.module): len(block.branches) for block in self.blocks}
        inside = self._inside()

        def has_layers_outside(module: nn.Module) -> bool:
            return any(id(child) not in inside and any(True for _ in child.parameters()) for child in module.children())

        return [
            name
            for name, module in network.named_modules()
            if name and id(module) not in inside and _may_be_block(module) and not isinstance(module, GatedBranch)
            if has_layers_outside(module) and blocks.count_sums(module, self.example) > branches.get(id(module), 0)
        ]

    def untraced(self, network: nn.Module) -> list[str]:
        """The names of modules outside of units, with two layers or more, whose forward passes could not be traced."""
        inside = self._inside()

        def is_layer(module: nn.Module) -> bool:
            weight = module._parameters.get("weight")
            return weight is not None and weight.dim() > 1 and not isinstance(module, nn.Embedding)

        return [
            name
            for name in self._untraceable
            if name and id(module := network.get_submodule(name)) not in inside
            if not any(id(inner) in inside for inner in module.modules())
            if sum(map(is_layer, module.modules())) > 1
        ]

    def _gate_declared(self, network: nn.Module) -> list[tuple[str, nn.Module, NoShortcut]]:
        """Add gates to the blocks that declare their branches; return those whose declared ends meet no shortcut."""
        refused: list[tuple[str, nn.Module, NoShortcut]] = []
        for name, module in network.named_modules():
            if is_declared(module):
                try:
                    self._add(name, module)
                except NoShortcut as error:
                    refused.append((name, module, error))
        for block in self.blocks:
            if any(blocks.branches_of(inner) for branch in block.branches for inner in branch.modules):
                raise Ungateable(block.module, "a branch contains blocks with branches of their own")
        with_shortcut = {blocks.own_class(module) for module in self.gated}
        for name, module, _ in refused:
            if type(module) not in with_shortcut:  # the declaration is wrong, as in timm's ResNeSt
                self._add(name, module, [])
        return refused

    def _check_refused(self, refused: list[tuple[str, nn.Module, NoShortcut]]) -> None:
        """Skip blocks without a shortcut; raise the error of a class that has one nowhere, unless it lies in a unit."""
        inside = self._inside()
        useful = {blocks.own_class(block.module) for block in self.blocks}
        useful |= {blocks.own_class(module) for _, module, _ in refused if id(module) in inside}
        for name, module, error in refused:
            if blocks.own_class(module) not in useful:
                raise error
            if not blocks.is_gated(module):
                self.skipped[name] = error.reason

    def _sort(self, network: nn.Module) -> None:
        order = {id(module): index for index, module in enumerate(network.modules())}
        self.blocks.sort(key=lambda block: order[id(block.module)])

    def _gate_sums(self, network: nn.Module) -> None:
        for name, module in network.named_modules():
            if not _may_be_block(module):
                continue
            try:
                self._add(name, module, [])
            except UserError as error:
                self.skipped[name] = str(error)
                if isinstance(error, Inconstant):
                    self.inconstant.append(name)
                elif isinstance(error, Untraceable):
                    self._untraceable.append(name)
        self._choose_between_nested()

    def _choose_between_nested(self) -> None:
        """Drop the block inside a branch if it is the only one, else the block that holds several."""
        for outer in list(self.blocks):
            if outer not in self.blocks:
                continue
            inside = {id(module) for branch in outer.branches for module in branch.modules}
            inner = [block for block in self.blocks if id(block.module) in inside]
            if len(inner) > 1:
                self._remove(outer, "its branch holds blocks with branches of their own")
            for block in inner if len(inner) == 1 else ():
                self._remove(block, f"it lies in a branch of {outer.name}")

    def _inside(self) -> set[int]:
        """The modules of all branches, by id."""
        return {id(module) for block in self.blocks for branch in block.branches for module in branch.modules}

    def _check_side_items(self, declared: bool) -> None:
        """Refuse or remove branches whose modules also compute something else that the example's output depends on."""
        with_items = [(block, branch.side) for block in self.blocks for branch in block.branches if branch.side]
        if self.example is None or not with_items:
            return
        items = [item for _, side in with_items for item in side]
        in_use = items_in_use(self.example.network, self.example.inputs, items)
        used = [item for item, is_used in zip(items, in_use, strict=True) if is_used]
        for block, side in with_items:
            modules = [module for module, index in side if (module, index) in used]
            if modules and all(module is block.module for module in modules):
                self._replace(block, blocks.leave_returned(block.module, self.example))
            elif modules and declared:
                raise not_own(block.name)
            elif modules and block in self.blocks:
                self._remove(block, _NOT_OWN)

    def _add(self, name: str, module: nn.Module, ends: list[str] | None = None) -> None:
        if isinstance(module, GatedBranch):
            self.blocks.append(Block(name, module, blocks.branches_of(module)))
            return
        had_gates = blocks.is_gated(module)
        if branches := blocks.gate(module, ends, self.example):
            self.blocks.append(Block(name, module, branches))
            if not had_gates:
                self.gated.append(module)

    def _replace(self, block: Block, branches: list[Branch]) -> None:
        self.blocks = [Block(b.name, b.module, branches) if b.module is block.module else b for b in self.blocks]

    def _remove(self, block: Block, reason: str) -> None:
        self.blocks.remove(block)
        self.skipped[block.name] = reason
        if block.module in self.gated:
            self.gated.remove(block.module)
            blocks.ungate(block.module)


_NOT_OWN = "what its layers compute is used outside its branch too, so the branch cannot be dropped and trained alone"


def not_own(name: str) -> UserError:
    """The error for a branch without parameters of its own."""
    return UserError(f"{name}: {_NOT_OWN}")


def is_declared(module: nn.Module) -> bool:
    """Whether a module, by its class or its children, declares residual branches."""
    return isinstance(module, GatedBranch) or bool(branch_ends(module))


def _may_be_block(module: nn.Module) -> bool:
    """Whether a module could have branches that it does not declare; this project's own modules declare theirs."""
    return (
        bool(module._modules)
        and not isinstance(module, _NO_BLOCKS)
        and not _is_own(blocks.own_class(module).__module__)
    )


@cache
def _is_own(name: str) -> bool:
    """Whether a Python module is this project's; one of an extension has such a name too, and lies elsewhere."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return name.startswith(f"{_PACKAGE.name}.") and file is not None and Path(file).is_relative_to(_PACKAGE)
