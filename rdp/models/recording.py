"""A record of one forward pass: the arguments and results of every module, for tracing with values."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree


@dataclass
class Call:
    """A call of a module: its arguments, its output, and the calls that it made, in order."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any = None
    calls: list["Call"] = field(default_factory=list)


def record_calls(network: nn.Module, example: Any) -> dict[int, Call]:
    """The first call of each module, by the module's id, in one forward pass in evaluation mode.

    ``example`` is the network's input: a tensor, a tuple of positional or a mapping of keyword arguments.
    """
    first: dict[int, Call] = {}
    stack: list[Call] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = Call(module, args, kwargs)
        if stack:
            stack[-1].calls.append(call)
        stack.append(call)

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = stack.pop()
        call.output = output
        first.setdefault(id(module), call)

    modules = list(network.modules())
    handles = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in modules]
    handles += [m.register_forward_hook(leave, with_kwargs=True) for m in modules]
    try:
        with evaluation_mode(network), torch.no_grad():
            run(network, example)
    finally:
        for handle in handles:
            handle.remove()
    return first


def items_in_use(network: nn.Module, example: Any, items: list[tuple[nn.Module, Any]]) -> list[bool]:
    """Whether the network's output depends on items that modules compute with their parameters, by module and index.

    An item that a module hands on counts as none of its own.
    """
    values: list[tuple[int, torch.Tensor]] = []

    def keep(number: int) -> Callable[..., Any]:
        module, index = items[number]
        parameters = [p for p in module.parameters() if p.requires_grad]

        def own_copy(value: Any) -> Any:
            if not (isinstance(value, torch.Tensor) and value.requires_grad):
                return value
            gradients = torch.autograd.grad(value.sum(), parameters, retain_graph=True, allow_unused=True)
            if all(gradient is None for gradient in gradients):
                return value
            # A copy, since the module may compute its other items from this one.
            copy = value.detach().requires_grad_()
            values.append((number, copy))
            return copy

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            replaced = pytree.tree_map(own_copy, output[index])
            if isinstance(output, Mapping):  # of transformers, whose items have places too
                key = index if isinstance(index, str) else list(output)[index]
                return type(output)(**(dict(output) | {key: replaced}))
            items = list(output)
            items[index] = replaced  # one item, or several of a slice
            return output._make(items) if hasattr(output, "_make") else type(output)(items)

        return hook

    handles = [module.register_forward_hook(keep(number)) for number, (module, _) in enumerate(items)]
    try:
        with evaluation_mode(network), torch.enable_grad():
            output = run(network, example)
    finally:
        for handle in handles:
            handle.remove()
    leaves = pytree.tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    total = sum(v.sum() for v in leaves if isinstance(v, torch.Tensor) and v.requires_grad)
    if not values or not isinstance(total, torch.Tensor):
        return [False] * len(items)
    gradients = torch.autograd.grad(total, [tensor for _, tensor in values], allow_unused=True)
    used = {number for (number, _), gradient in zip(values, gradients, strict=True) if gradient is not None}
    return [number in used for number in range(len(items))]


def run(network: nn.Module, example: Any) -> Any:
    """Call a network with a tensor, a tuple of positional arguments, or a mapping of keyword arguments."""
    if isinstance(example, Mapping):
        return network(**example)
    return network(*(example if isinstance(example, tuple) else (example,)))


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put all modules into evaluation mode, and restore the mode of each on exit."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def doubled(example: Any) -> Any:
    """The example with each of its tensors twice, along the first dimension."""
    plain = dict(example) if isinstance(example, Mapping) else example
    return pytree.tree_map(lambda v: torch.cat([v, v]) if isinstance(v, torch.Tensor) and v.dim() else v, plain)


class Example:
    """An input of a network, and the calls of modules that it leads to, recorded when they are first needed.

    Args:
        network: the network.
        inputs: as in `run`.
    """

    def __init__(self, network: nn.Module, inputs: Any) -> None:
        self.network, self.inputs = network, inputs

    @cached_property
    def _records(self) -> list[dict[int, Call]]:
        return [record_calls(self.network, inputs) for inputs in (self.inputs, doubled(self.inputs))]

    def calls(self, module: nn.Module) -> list[Call]:
        """The first call of a module with the examples, and with twice as many; empty if it is not called."""
        return [record[id(module)] for record in self._records if id(module) in record]
