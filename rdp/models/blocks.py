"""Gates in blocks of other libraries: timm's, torchvision's, transformers', a user's own.

The forward pass of a block is traced with its children as black boxes (`rdp.models.tracing`) and split into residual
branches and the additions that join them (`rdp.models.splitting`). The block then gets a subclass of its own class. Its
``forward`` is the original one while all gates are open, and otherwise the traced one, with each branch behind its
gate. Parameters, buffers and their names do not change. A copy of a gated block, and one that is pickled, is a block of
the original class.
"""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeGuard

import torch
from torch import nn

from rdp.errors import UserError
from rdp.models.branch_ends import branch_ends
from rdp.models.gates import Gate, GatedBranch
from rdp.models.recording import Call, Example
from rdp.models.splitting import Part, TracedForward, split
from rdp.models.tracing import (
    Arguments,
    BlockTracer,
    Inconstant,
    Ungateable,
    Untraceable,
    bind,
    own_signature,
    plain_attributes,
    required_arguments,
    trace,
)
from rdp.models.value_tracing import ValueTracer


class Branch:
    """One branch of a block, with the modules and parameters that only it uses, and its gate."""

    def __init__(self, block: nn.Module, part: Part, gate: Gate | None = None) -> None:
        self._block, self.part, self.gate = block, part, gate or Gate()

    @property
    def end(self) -> str:
        """The name of the child that ends the branch."""
        return self.part.end

    @property
    def children(self) -> list[nn.Module]:
        """The modules that the block calls in the branch."""
        return [self._block.get_submodule(name) for name in self.part.modules]

    @property
    def side(self) -> list[tuple[nn.Module, Any]]:
        """The items that the block and its modules return for other uses: each module, and the item's index."""
        return [(self._block.get_submodule(name), index) for name, index in self.part.side]

    @property
    def modules(self) -> list[nn.Module]:
        """All modules of the branch."""
        return [inner for child in self.children for inner in child.modules()]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters of the branch."""
        own = [operator.attrgetter(name)(self._block) for name in self.part.parameters]
        return [*(p for child in self.children for p in child.parameters()), *own]


class _Gates:
    """What a gated block holds in addition to its own attributes; not a module, so that no state_dict contains it.

    Attributes:
        block: the block.
        kind: its own class.
        branches: its branches, in the order of the forward pass.
        sums: that of its `TracedForward`.
    """

    def __init__(self, block: nn.Module, ends: list[str], example: Example | None = None) -> None:
        self.block, self.kind, self._ends = block, type(block), ends
        # Whether the model uses a value that a block returns is known from an example only.
        self._returned = example is not None
        self._signature = own_signature(self.kind)
        self._required = len(required_arguments(self._signature).inputs)
        self._find_branches(example)

    def leave_returned(self, example: Example) -> None:
        """Take the layers that compute values which the block returns out of its branches."""
        self._returned = False
        self._find_branches(example)

    def _find_branches(self, example: Example | None) -> None:
        traced = self._trace_modes(example)
        self.branches = [Branch(self.block, part) for part in traced.parts]
        self.sums = traced.sums

    def _trace_modes(self, example: Example | None = None) -> TracedForward:
        """The forward pass in training mode, which has the same branches in evaluation mode."""
        self._attributes = plain_attributes(self.block)
        self._by_mode: dict[bool, TracedForward] = {}
        self._by_call: dict[tuple[Arguments, bool], TracedForward] = {}
        self._sizes: list[tuple[int, ...]] | None = None  # of the inputs, without the first dimension
        self._inconstancy = ""
        required = required_arguments(self._signature)
        try:
            self._by_mode = {training: self._trace(required, training) for training in (True, False)}
            traced, other = self._by_mode.values()
        except Untraceable:
            if example is None or not (calls := example.calls(self.block)):
                raise
            traced, other = (self._trace_along(calls, training) for training in (True, False))
        if self._inconstancy and (traced.parts or other.parts):
            raise Inconstant(self.block, self._inconstancy)
        self._check_same(traced.parts, other.parts, "in evaluation mode")
        return traced

    def refresh(self, name: str) -> None:
        """Follow changed numbers, texts and switches among the block's attributes: trace its forward pass again.

        Raises `UserError` for the block with this name if its branches have changed, or its forward method.
        """
        advice = "close the schedule, and make it after the change"
        if "forward" in vars(self.block):
            raise UserError(f"{name}: its forward was replaced while a schedule controls it; {advice}")
        attributes = plain_attributes(self.block)
        if attributes == self._attributes:
            return
        changed = [key for key in attributes if attributes[key] != self._attributes.get(key, attributes)]
        try:
            parts = self._trace_modes().parts
        except UserError as error:
            raise UserError(f"{name}: its attribute {changed[0]} has changed ({error}); {advice}") from None
        if parts != [branch.part for branch in self.branches]:
            raise UserError(f"{name}: its attribute {changed[0]} has changed, and with it its branches; {advice}")

    def _trace(self, arguments: Arguments, training: bool, known: Sequence[Part] = ()) -> TracedForward:
        tracer = BlockTracer(self.kind.forward, arguments)
        graph = trace(self.block, tracer, training, self._absent())
        self._inconstancy = self._inconstancy or tracer.inconstancy
        return split(self.block, graph, self._ends, known, returned=self._returned)

    def _trace_along(self, calls: list[Call], training: bool) -> TracedForward:
        """The forward pass along recorded calls with different numbers of examples."""
        graphs = []
        for call in calls:
            arguments, values = bind(self._signature, call.args, call.kwargs)
            tracer = ValueTracer(self.kind.forward, arguments, values, call)
            graphs.append(trace(self.block, tracer, training, self._absent()))
            self._inconstancy = self._inconstancy or tracer.inconstancy
            if tracer.depends_on_sizes:
                self._sizes = _sizes(values)
        if len({graph.python_code("self").src for graph in graphs}) > 1:
            raise Ungateable(self.block, "its forward depends on the number of examples")
        traced = self._by_call[arguments, training] = split(self.block, graphs[0], self._ends, returned=self._returned)
        return traced

    def _absent(self) -> tuple[str, ...]:
        return tuple(end for end in self._ends if getattr(self.block, end, 0) is None)

    def _check_same(self, parts: list[Part], others: list[Part], condition: str) -> None:
        if [part.end for part in parts] != [part.end for part in others]:
            raise Ungateable(self.block, f"it has other branches {condition}")

    @property
    def open(self) -> bool:
        return all(branch.gate.is_open for branch in self.branches)

    def forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The forward pass by the gates."""
        if len(args) == self._required and not kwargs and self._by_mode:
            return self._by_mode[self.block.training].forward(self.block, *args)
        arguments, values = bind(self._signature, args, kwargs)
        key = (arguments, self.block.training)
        if self._sizes is not None and _sizes(values) != self._sizes:
            raise Ungateable(self.block, f"its forward depends on sizes, and those of the example were {self._sizes}")
        if key not in self._by_call:
            parts = [branch.part for branch in self.branches]
            self._by_call[key] = self._trace(*key, parts)
            names = ", ".join([*arguments.inputs, *dict(arguments.constants)])
            self._check_same(self._by_call[key].parts, parts, f"when it is called with {names}")
        return self._by_call[key].forward(self.block, *values)

    def join(
        self, index: int, shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple[Any, ...]
    ) -> torch.Tensor:
        """The gated forward pass calls this in place of an addition."""
        joined = self.branches[index].gate.add(shortcut, partial(branch, self.block), *inputs)
        # Code that follows may change the sum in place.
        return joined.clone() if joined is shortcut else joined

    def watch(self, item: Any) -> Any:
        """Raise an error in the backward pass if the model uses an item that a branch computes beside its output."""
        if not (isinstance(item, torch.Tensor) and item.requires_grad):
            return item

        def refuse(gradient: torch.Tensor) -> None:
            raise Ungateable(
                self.block,
                "what its layers compute is used outside of its branch too",
                "pass an input of the model as example, and such branches are left out",
            )

        alias = item.view_as(item)
        alias.register_hook(refuse)  # type: ignore[no-untyped-call]
        return alias


def _sizes(values: list[Any]) -> list[tuple[int, ...]]:
    """The sizes of tensors, without the number of examples."""
    return [tuple(value.shape[1:]) for value in values if isinstance(value, torch.Tensor)]


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
        if not is_gated(self):  # called through a wrapper that was made before `ungate`
            return type(self).forward(self, *args, **kwargs)
        gates = self._gates
        return super().forward(*args, **kwargs) if gates.open else gates.forward(args, kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        state = {name: value for name, value in reduced[2].items() if name != "_gates"}
        return object.__new__, (own_class(self),), state, *reduced[3:]


def is_gated(block: nn.Module) -> TypeGuard[_GatedBlock]:
    """Whether the block has gates."""
    return isinstance(block, _GatedBlock)


def own_class(block: nn.Module) -> type[nn.Module]:
    """The class of a block, of a gated one without gates."""
    return _ungated(type(block)) if is_gated(block) else type(block)


def gate(block: nn.Module, ends: list[str] | None = None, example: Example | None = None) -> list[Branch]:
    """Add gates to a block that has none, and return its branches in order.

    The list is empty, and the block unchanged, if the forward pass has no branch (an inverted residual whose shapes
    differ has no shortcut).

    Args:
        block: the block.
        ends: the children that end its branches; by default those that `branch_ends` finds. If empty, every function of
            a value that is added to the value is a branch.
        example: an input of the network, along which a forward pass is traced that depends on sizes.

    Raises:
        UserError: an end whose output is not added to a shortcut, or a forward pass that cannot be traced.
    """
    if is_gated(block):
        return block._gates.branches
    if "forward" in vars(block):
        raise Ungateable(block, "its forward is an attribute of the object, not a method of its class")
    gates = _Gates(block, branch_ends(block) if ends is None else ends, example)
    if gates.branches:
        block.__class__ = _gated_class(type(block))
        assert is_gated(block)
        block._gates = gates
    return gates.branches


def count_sums(block: nn.Module, example: Example | None) -> int:
    """The number of `TracedForward.sums` of a block; 0 for one that cannot be traced."""
    if is_gated(block):
        return block._gates.sums
    try:
        return _Gates(block, [], example).sums
    except UserError:
        return 0


def branches_of(block: nn.Module) -> list[Branch]:
    """The branches of a block of this project, or of a gated one; none of another module."""
    if isinstance(block, GatedBranch):
        return [Branch(block, Part("", ("branch",), ()), block.gate)]
    return block._gates.branches if is_gated(block) else []


_gated_classes: dict[type[nn.Module], type[nn.Module]] = {}


def _gated_class(kind: type[nn.Module]) -> type[nn.Module]:
    """One subclass for all blocks of a class, so that torch.compile sees the same code for all of them."""
    if kind not in _gated_classes:
        _gated_classes[kind] = type(kind.__name__, (_GatedBlock, kind), {})
    return _gated_classes[kind]


_own_classes: dict[type[nn.Module], type[nn.Module]] = {}


def _ungated(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a gated block without gates; FSDP2, for one, makes subclasses of the class that it finds."""
    if kind.__bases__[0] is _GatedBlock:
        return kind.__bases__[1]
    if kind not in _own_classes:
        bases = tuple(_ungated(base) if issubclass(base, _GatedBlock) else base for base in kind.__bases__)
        own = {name: value for name, value in vars(kind).items() if name not in {"__dict__", "__weakref__"}}
        _own_classes[kind] = type(kind.__name__, bases, own)
    return _own_classes[kind]


def leave_returned(block: nn.Module, example: Example) -> list[Branch]:
    """The branches of a gated block without the layers that compute values which the block returns."""
    assert is_gated(block)
    block._gates.leave_returned(example)
    return block._gates.branches


def refresh(block: nn.Module, name: str) -> None:
    """Follow changes of a gated block's attributes; see `_Gates.refresh`."""
    if is_gated(block):
        block._gates.refresh(name)


def ungate(block: nn.Module) -> None:
    """Restore the block as it was before `gate`."""
    del block._gates
    block.__class__ = own_class(block)
