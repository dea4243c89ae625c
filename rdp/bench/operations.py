"""The operations of a training step by kind, with the floating-point operations and bytes that each one needs.

A multiply-add counts as two floating-point operations, as torch counts it; only matrix products, convolutions and
attention are counted. The bytes are those of the tensors that an operation reads and of those that it writes, each
once. A step that fuses operations needs fewer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

KINDS = ("convolution", "matmul", "norm", "elementwise", "optimizer")
OTHER = "other"  # the loss, gathering the mini-batch, allocation, views
# Beside torch's pointwise operations: copies, concatenations and sums, which are bound by memory too.
_ELEMENTWISE = ("_to_copy", "copy_", "constant_pad_nd", "slice_backward", "cat", "stack", "sum", "mean")
_OPTIMIZER = ("_fused_", "_foreach_")
_READ_ONLY = "grads"  # an argument of fused optimizers, which write to it only when unscaling


@dataclass(frozen=True)
class Operation:
    """One call of an operation of torch, below autograd and autocast."""

    name: str  # such as ``aten::convolution``
    kind: str  # one of `KINDS`, or `OTHER`
    precision: str  # type of its first floating-point tensor, such as ``float32``
    flops: int  # floating-point operations
    moved: int  # bytes read plus bytes written; 0 of `OTHER`
    working_set: int  # bytes of its distinct tensors; 0 of `OTHER`


def operations(function: Callable[[], object]) -> list[Operation]:
    """Return the operations that a function calls, in order."""
    recorder = _Recorder()
    with recorder:
        function()
    return recorder.operations


def kind_of(function: Any) -> str:
    """Return the kind of an overload of an operation: attention and all matrix products are ``matmul``."""
    name = _name(function)
    if function._overloadpacket in flop_registry:
        return "convolution" if "conv" in name else "matmul"
    if name.startswith(_OPTIMIZER):
        return "optimizer"
    if "_norm" in name:
        return "norm"
    return "elementwise" if torch.Tag.pointwise in function.tags or name in _ELEMENTWISE else OTHER


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch does not annotate its __init_subclass__
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        kind, moved, working_set = kind_of(function), 0, 0
        if kind != OTHER:
            moved, working_set = _traffic(function, args, kwargs, result)
        formula = flop_registry.get(function._overloadpacket)
        flops = formula(*args, **kwargs, out_val=result) if formula else 0
        precision = next((str(tensor.dtype) for tensor in _tensors(args) if tensor.is_floating_point()), "")
        name = function._schema.name
        self.operations.append(Operation(name, kind, precision.removeprefix("torch."), flops, moved, working_set))
        return result


def _traffic(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> tuple[int, int]:
    """Return the bytes that an operation moves and its working set."""
    read, written = _tensors((args, kwargs)), _tensors(result)
    returned = {tensor.data_ptr() for tensor in written}
    for place, argument in enumerate(function._schema.arguments):
        if argument.is_write and argument.name != _READ_ONLY:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            written += [tensor for tensor in _tensors(value) if tensor.data_ptr() not in returned]
    moved = sum(map(_size, read)) + sum(map(_size, written))
    distinct = {tensor.data_ptr(): _size(tensor) for tensor in (*read, *written)}
    return moved, sum(distinct.values())


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _size(tensor: torch.Tensor) -> int:
    """Bytes of a tensor in memory, which are few if it is expanded."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _name(function: Any) -> str:
    name: str = function._schema.name
    return name.partition("::")[2]
