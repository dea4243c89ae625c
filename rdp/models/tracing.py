"""The forward pass of a block as a graph (torch.fx), with its children as black boxes."""

import copy
import inspect
import operator
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import fx, nn

from rdp.errors import UserError
from rdp.models import graph_sums

_COMPARISONS = {operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge}
_NUMBERS = {operator.add, operator.sub, operator.mul, operator.mod, operator.floordiv, operator.truediv, operator.and_}
_NO_EFFECT = {torch._assert, operator.getitem, getattr, *_COMPARISONS, *_NUMBERS}
_VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


class Ungateable(UserError):
    """A block that cannot get gates, for a ``reason``, with a hint of what to do."""

    def __init__(self, block: nn.Module, reason: str, hint: str = "") -> None:
        self.reason = reason
        text = f"{type(block).__name__}: no gates can be put into this block: {reason}"
        super().__init__(f"{text}; {hint}" if hint else text)


class Untraceable(Ungateable):
    """A block whose forward pass cannot be traced."""

    def __init__(self, block: nn.Module, reason: str) -> None:
        super().__init__(block, reason, "if its forward depends on sizes, pass an input of the model as example")


class Inconstant(Ungateable):
    """A block whose branches depend on more than its input: on random numbers, or on an attribute that it changes."""

    def __init__(self, block: nn.Module, cause: str) -> None:
        super().__init__(block, f"its forward {cause}, so a traced one would compute something else")


class Arguments(NamedTuple):
    """How a call passes the parameters of a forward method.

    ``inputs`` are placeholders of the graph. ``constants`` have other values than their defaults, and are hashable.
    The other parameters have their defaults.
    """

    inputs: tuple[str, ...]
    constants: tuple[tuple[str, Any], ...] = ()


def required_arguments(signature: inspect.Signature) -> Arguments:
    """A call with the required parameters only."""
    return Arguments(
        tuple(p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in _VARIADIC)
    )


def bind(signature: inspect.Signature, args: Any, kwargs: Mapping[str, Any]) -> tuple[Arguments, list[Any]]:
    """How a call passes its arguments, and the values of the graph's inputs.

    An optional argument is a constant if it is a number, a text, a type, None or a tuple of such, and otherwise an
    input. Raises TypeError for arguments that do not fit.
    """
    bound = signature.bind(*args, **kwargs)
    inputs, constants, values = [], [], []
    given = dict(bound.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            given |= given.pop(parameter.name, {})
    for name, value in given.items():
        known = signature.parameters.get(name)
        if (known and known.default is known.empty) or not _is_constant(value):
            inputs.append(name)
            values.append(value)
        elif known is None or not _same(value, known.default):
            constants.append((name, value))
    return Arguments(tuple(inputs), tuple(constants)), values


def _same(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, bool | int | float | str) and bool(value == default))


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return value is None or isinstance(value, bool | int | float | str | torch.dtype)


def trace(block: nn.Module, tracer: "BlockTracer", training: bool, absent: tuple[str, ...] = ()) -> fx.Graph:
    """The graph of a call of the block, which stays unchanged.

    Args:
        block: the block.
        tracer: of its class's own forward method and the call's arguments.
        training: in training or evaluation mode.
        absent: names of children that hold None, and stand for identities in the graph.

    Raises:
        Untraceable: a forward pass that cannot be traced, or makes tensors of its own.
    """
    with _restored(block), _without_fast_path(), _without_autocast(), _unchanged_random_state() as draws:
        block.training = training
        for name in absent:
            setattr(block, name, nn.Identity())
        before = set(vars(block)) | set(block._modules)
        numbers = plain_attributes(block)
        try:
            graph = tracer.trace(block)
        except Exception as error:  # a forward of other code may raise anything when it is traced
            reason = " ".join(str(error).split())[:200]
            raise Untraceable(block, f"its forward cannot be traced ({type(error).__name__}: {reason})") from None
        if set(vars(block)) - before:
            raise Untraceable(block, "its forward makes tensors of its own")
        changed = [name for name, value in plain_attributes(block).items() if value != numbers[name]]
        tracer.inconstancy = f"changes its attribute '{changed[0]}'" if changed else "draws random numbers" * draws()
    for node in reversed(graph.nodes):
        # Without effect on the output, but its inputs would not belong to one branch only.
        if not node.users and (node.op == "get_attr" or node.target in _NO_EFFECT or tracer.is_number(node)):
            graph.erase_node(node)
    return graph


@contextmanager
def _restored(block: nn.Module) -> Iterator[None]:
    """Restore the attributes and children of a block on exit, and the items of those that are containers."""
    attributes = vars(block).copy()
    items = {name: copy.copy(value) for name, value in attributes.items() if isinstance(value, dict | list)}
    try:
        yield
    finally:
        block.__dict__.clear()
        block.__dict__.update(attributes)
        for name, saved in items.items():
            container = attributes[name]
            container.clear()
            container.update(saved) if isinstance(container, dict) else container.extend(saved)


def plain_attributes(block: nn.Module) -> dict[str, Any]:
    """The numbers, texts and switches among a block's attributes, which its forward may read; not ``training``."""
    return {
        name: value
        for name, value in vars(block).items()
        if name != "training" and (value is None or isinstance(value, bool | int | float | str))
    }


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Make autocast an error, since a graph does not contain it."""

    def refuse(self: torch.autocast) -> None:
        raise fx.proxy.TraceError("a part of it runs with its own autocast setting")

    with patch.object(torch.autocast, "__enter__", refuse):
        yield


@contextmanager
def _unchanged_random_state() -> Iterator[Callable[[], bool]]:
    """Restore the states of the random number generators on exit; yields whether numbers were drawn so far."""
    python, numpy, own = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (the global one)

    def draws() -> bool:
        same = map(np.array_equal, np.random.get_state(), numpy)  # noqa: NPY002
        return random.getstate() != python or not all(same) or not torch.equal(torch.get_rng_state(), own)

    try:
        yield draws
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(own)


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Switch off the fast path of torch's transformer layers, whose conditions cannot be traced."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


class BlockTracer(fx.Tracer):
    """Traces one block, with its children as black boxes, but for those that add the block's shortcut.

    Attributes:
        inconstancy: what makes the forward pass compute something else in another call; empty if nothing was noticed.
    """

    def __init__(self, forward: Callable[..., Any], arguments: Arguments) -> None:
        super().__init__()
        self._forward, self._arguments = forward, arguments
        self.inconstancy = ""

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        self.graph._graph_namespace.create_name("self", None)  # not for the node of a child with this name
        self._gradients = torch.is_grad_enabled()
        proxies = {name: self.create_proxy("placeholder", name, (), {}) for name in self._arguments.inputs}
        forward = partial(self._forward, **proxies, **dict(self._arguments.constants))

        def run(root: nn.Module) -> Any:
            output = forward(root)
            if isinstance(output, dict) and type(output) is not dict:  # fx would return a plain dict
                output = self.create_proxy("call_function", type(output), (), dict(output))
            return output

        return run, [self.root]

    def create_node(self, *arguments: Any, **options: Any) -> fx.Node:
        if torch.is_grad_enabled() != self._gradients:
            raise fx.proxy.TraceError("a part of it runs without gradients")
        return super().create_node(*arguments, **options)

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return True

    def call_module(
        self, module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        proxies: list[fx.Proxy] = []
        fx.node.map_aggregate((args, kwargs), lambda a: proxies.append(a) if isinstance(a, fx.Proxy) else a)
        if len({proxy.node for proxy in proxies}) > 1 and _adds_input(module):
            return self.inline(module, forward, args, kwargs)
        return super().call_module(module, forward, args, kwargs)

    def is_number(self, node: fx.Node) -> bool:
        """Whether a node is known to have no tensor as its value."""
        return False

    def inline(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Trace a child as a part of the block."""
        return forward(*args, **kwargs)


def _adds_input(module: nn.Module) -> bool:
    kind = type(module)
    try:
        tracer = BlockTracer(kind.forward, required_arguments(own_signature(kind)))
        graph = trace(module, tracer, module.training)
    except UserError:
        return False
    return graph_sums.adds_input(module, graph)


def own_signature(kind: type[nn.Module]) -> inspect.Signature:
    """The signature of a class's forward method, without ``self``."""
    signature = inspect.signature(kind.forward)
    return signature.replace(parameters=list(signature.parameters.values())[1:])
