"""Gates in blocks of other libraries: timm's, torchvision's, a user's own.

The forward pass of a block is traced with its children as black boxes (`rdp.models.tracing`). Where the output of a
branch end is added to a shortcut, the operations that lead to that output only are a residual branch. The block then
gets a subclass of its own class. Its ``forward`` is the original one while all gates are open, and otherwise the traced
one, with each branch behind its gate. Parameters, buffers and their names do not change.
"""

from typing import Any, NoReturn, TypeGuard

import torch
from torch import nn

from rdp.errors import UserError
from rdp.models.branch_ends import DROP_MODULES, branch_ends, drop_probability
from rdp.models.gates import Gate
from rdp.models.tracing import BranchTracer, TracedForward, refuse


class Branch:
    """One branch, which ends in the child ``end``, with the modules and parameters that only it uses."""

    def __init__(
        self, end: str, modules: list[nn.Module], parameters: list[nn.Parameter], gate: Gate | None = None
    ) -> None:
        self.end, self.gate = end, gate or Gate()
        self.modules = [inner for module in modules for inner in module.modules()]
        self.parameters = [*(p for m in modules for p in m.parameters()), *parameters]


class _Gates:
    """What a gated block holds in addition to its own attributes; not a module, so that no state_dict contains it.

    ``forwards`` are its traced passes by training mode, ``silenced`` its droppath modules that are switched off, with
    the attribute and its original value.
    """

    def __init__(self, block: nn.Module, ends: list[str]) -> None:
        self.block, self.ends = block, ends
        self.branches: list[Branch] = []
        self.forwards: dict[bool, TracedForward] = {}
        self.silenced: list[tuple[nn.Module, str, float]] = []

    @property
    def open(self) -> bool:
        return all(branch.gate.is_open for branch in self.branches)


def scripting_error() -> UserError:
    """The error for torch.jit.script of a model with a schedule."""
    return UserError(
        "torch.jit.script: a model with a schedule, or a copy of one, cannot be scripted; train it unscripted, and "
        "script it after schedule.close()"
    )


class _GatedBlock(nn.Module):
    """Precedes the block's own class in the MRO, and selects the original or the gated forward pass."""

    _gates: _Gates

    def __prepare_scriptable__(self) -> NoReturn:
        """Called by torch.jit.script."""
        raise scripting_error()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._gates.open:
            return super().forward(*args, **kwargs)
        return self._gates.forwards[self.training].forward(self, *args, **kwargs)


def _join(gates: _Gates, index: int, shortcut: torch.Tensor, *inputs: Any) -> torch.Tensor:
    """The gated forward pass calls this in place of an addition."""
    block = gates.block
    branch = gates.forwards[block.training].branches[index]
    return gates.branches[index].gate.add(shortcut, lambda *values: branch(block, *values), *inputs)


def is_gated(block: nn.Module) -> TypeGuard[_GatedBlock]:
    """Whether the block has gates."""
    return isinstance(block, _GatedBlock)


def gate(block: nn.Module) -> list[Branch]:
    """Add gates to a block that has none, switch off its droppath modules, and return its branches in order.

    The list is empty, and the block unchanged, if the forward pass reaches none of the ends (an inverted residual whose
    shapes differ has no shortcut). Raises `UserError` for an end whose output is not added to a shortcut.
    """
    if is_gated(block):
        return block._gates.branches
    gates = _Gates(block, branch_ends(block))
    for training in (True, False):
        gates.forwards[training] = BranchTracer(block, gates.ends, _join).trace(training)
    traced = gates.forwards[True].parts
    for _, modules, _ in (*traced, *gates.forwards[False].parts):
        if any(is_gated(inner) or branch_ends(inner) for module in modules for inner in module.modules()):
            raise refuse(block, "a branch contains blocks with branches of their own")
    if not traced or [end for end, *_ in traced] != [end for end, *_ in gates.forwards[False].parts]:
        return []
    gates.branches = [Branch(*parts) for parts in traced]
    for end in gates.ends:
        if drop_probability(block, end) > 0:
            child = getattr(block, end)
            name = DROP_MODULES[type(child).__name__]
            gates.silenced.append((child, name, getattr(child, name)))
            setattr(child, name, 0.0)
    block.__class__ = _gated_class(type(block))
    assert is_gated(block)
    block._gates = gates
    return gates.branches


_gated_classes: dict[type[nn.Module], type[nn.Module]] = {}


def _gated_class(kind: type[nn.Module]) -> type[nn.Module]:
    """One subclass for all blocks of a class, so that torch.compile sees the same code for all of them."""
    if kind not in _gated_classes:
        _gated_classes[kind] = type(f"Gated{kind.__name__}", (_GatedBlock, kind), {})
    return _gated_classes[kind]


def ungate(block: nn.Module) -> None:
    """Restore the block as it was before `gate`."""
    assert is_gated(block)
    for child, name, value in block._gates.silenced:
        setattr(child, name, value)
    block.__class__ = type(block).__mro__[2]
    del block._gates
