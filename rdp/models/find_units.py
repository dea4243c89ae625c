"""Which residual branches of a model a schedule finds, and which it leaves out, seen in one forward pass."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from rdp.errors import UserError
from rdp.models import blocks
from rdp.models.recording import run
from rdp.models.units import Units
from rdp.models.weights import unwrap

_ADDITIONS = {torch.add, torch.Tensor.add, torch.Tensor.add_, torch.Tensor.__add__, torch.Tensor.__iadd__}
_ADDITIONS |= {torch.Tensor.__radd__}


@dataclass(frozen=True)
class LeftOut:
    """A module that adds a function of a value to the value, and is no unit.

    Attributes:
        name: of the module; empty for the model itself.
        kind: the name of its class.
        ends: the children to register, so that it becomes a unit beside those that the module has; empty if what is
            added is not the output of a child, or if no gate can be put behind it.
        reason: why it is no unit.
    """

    name: str
    kind: str
    ends: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        ends = ", ".join(map(repr, self.ends))
        hint = f"; rdp.register_block({self.kind}, {ends}) makes it a unit" if ends else ""
        return f"{self.name or 'the model'} ({self.kind}): {self.reason}{hint}"


@dataclass(frozen=True)
class FoundUnits:
    """The units of a model, and the residual branches that are none; `str` gives one line for each.

    Attributes:
        units: the names of the units, in the order of the forward pass.
        left_out: the modules with other residual branches.
        without_shortcut: the names of blocks that have no shortcut, of classes that have one elsewhere.
    """

    units: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    without_shortcut: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.units)} units: {', '.join(self.units)}"]
        if self.without_shortcut:
            lines.append(f"without a shortcut: {', '.join(self.without_shortcut)}")
        return "\n".join([*lines, *(f"left out: {left}" for left in self.left_out)])


def find_units(model: nn.Module, example: Any) -> FoundUnits:
    """List the residual branches that a schedule drops in a model, and those that it leaves out.

    A copy of the model runs once in evaluation mode. Every addition of a value and a function of this value is a
    residual branch, if the function has parameters.

    Args:
        model: any model; it stays unchanged.
        example: its input: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.

    Raises:
        UserError: a block that is refused, see `Schedule`. Active droppath modules are allowed.

    >>> import rdp, timm, torch
    >>> found = rdp.find_units(timm.create_model("test_vit"), torch.zeros(1, 3, 160, 160))
    >>> found.units[:2], found.left_out
    (('blocks.0.drop_path1', 'blocks.0.drop_path2'), ())
    """
    network = copy.deepcopy(unwrap(model)).eval()
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.requires_grad_(isinstance(tensor, nn.Parameter) and tensor.is_floating_point())
    units = Units(network, take_over=True, example=example)
    recorder = _Recorder(network)
    for gate in (gate for gates in units.gates for gate in gates):
        gate.override = recorder.join
    with torch.enable_grad(), recorder.modules(), recorder:
        run(network, example)
    with_shortcut = {blocks.own_class(block) for block in units.blocks}
    others = [name for name, module in network.named_modules() if type(module) in with_shortcut]
    known = {id(block): [branch.end for branch in blocks.branches_of(block)] for block in units.blocks}
    units.ungate()
    left = {}
    for name, kind, end in recorder.sums:
        module = network.get_submodule(name)
        ends = (*known.get(id(module), ()), end) if end else ()
        reason = units.skipped.get(name, "nothing declares the end of its branch")
        left[name, end] = LeftOut(name, kind, ends if _are_ends(module, ends) else (), reason)
    return FoundUnits(tuple(units.names), tuple(left.values()), tuple(others))


def _are_ends(module: nn.Module, names: tuple[str, ...]) -> bool:
    """Whether a branch of the module ends in each of these children."""
    try:
        branches = blocks.gate(module, list(names)) if names else []
    except UserError:
        return False
    if branches:
        blocks.ungate(module)
    return bool(names) and sorted(branch.end for branch in branches) == sorted(names)


class _Recorder(TorchFunctionMode):
    """Records the additions of a value and a function of this value that has parameters, outside of units."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.sums: list[tuple[str, str, str | None]] = []  # names of module, class and the child that ends the branch
        self._names = {id(module): name for name, module in network.named_modules()}
        self._stack: list[nn.Module] = []
        self._outputs: dict[int, tuple[torch.Tensor, nn.Module]] = {}  # the last module that returned a tensor
        self._units = 0  # units whose branch is being computed

    def join(
        self, shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple[Any, ...]
    ) -> torch.Tensor:
        """Add a unit's branch without a record of it; takes the place of a gate's addition."""
        self._units += 1
        try:
            return shortcut + branch(*inputs)
        finally:
            self._units -= 1

    @contextmanager
    def modules(self) -> Iterator[None]:
        """Follow which module runs."""

        def enter(module: nn.Module, *_: Any) -> None:
            self._stack.append(module)

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            self._stack.pop()
            if isinstance(output, torch.Tensor):
                self._outputs[id(output)] = output, module  # holds the tensor, so that its id stays its own

        handles = [
            register_module_forward_pre_hook(enter),
            register_module_forward_hook(leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in _ADDITIONS and not self._units and len(args) == 2 and self._stack:
            for shortcut, output in (args, args[::-1]):
                if all(isinstance(value, torch.Tensor) for value in args) and _is_branch(output, shortcut):
                    self._record(output)
                    break
        return function(*args, **(kwargs or {}))

    def _record(self, output: torch.Tensor) -> None:
        module = self._stack[-1]
        child = self._outputs.get(id(output), (None, None))[1]
        ends = [name for name, inner in module.named_children() if inner is child]
        self.sums.append((self._names[id(module)], type(module).__name__, ends[0] if ends else None))


def _is_branch(output: torch.Tensor, shortcut: torch.Tensor) -> bool:
    """Whether a value was computed from another and from parameters that are not in the other's own graph."""
    source = shortcut.grad_fn
    if source is None or output.grad_fn is None:
        return False
    depends = has_parameters = False
    seen, waiting = {source}, [output.grad_fn]
    first = source._sequence_nr()
    while waiting:
        node = waiting.pop()
        depends |= node is source
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            has_parameters = True
        elif node._sequence_nr() > first:  # a node with a lower number was made before the shortcut
            waiting += [parent for parent, _ in node.next_functions if parent is not None]
    return depends and has_parameters
