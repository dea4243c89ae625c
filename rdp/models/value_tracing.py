"""Tracing a forward pass along the values of a recorded call, where its control flow depends on sizes."""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn

from rdp.models.recording import Call
from rdp.models.tracing import Arguments, BlockTracer

_PROPERTIES = {"shape", "ndim", "dtype", "device"}


class ValueTracer(BlockTracer):
    """Traces a block along a recorded call: its conditions, loops and conversions to numbers have the call's values.

    Conditions on the values of tensors are errors, as in any tracing.

    Attributes:
        depends_on_sizes: whether the graph is valid for tensors of the call's sizes only.
    """

    def __init__(self, forward: Callable[..., Any], arguments: Arguments, values: list[Any], call: Call) -> None:
        super().__init__(forward, arguments)
        self.depends_on_sizes = False
        self._inputs = dict(zip(arguments.inputs, values, strict=True))
        self._values: dict[fx.Node, Any] = {}
        self._pending = [iter(call.calls)]  # of the block, and of the children that are traced with it

    def value(self, proxy: fx.Proxy) -> Any:
        """The value of a proxy in the recorded call."""
        return self._values[proxy.node]

    def _fix(self, node: fx.Node) -> None:
        """Note that the graph is valid for this value of a node only."""
        waiting = [node]
        while waiting and not self.depends_on_sizes:
            current = waiting.pop()
            is_shape = current.target is getattr and current.args[1] == "shape"
            self.depends_on_sizes = bool(is_shape or (current.op == "call_method" and current.target == "size"))
            waiting += [n for n in current.all_input_nodes if not isinstance(self._values[n], torch.Tensor)]

    def is_number(self, node: fx.Node) -> bool:
        return node in self._values and not isinstance(self._values[node], torch.Tensor)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _ValueProxy(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        proxy: fx.Proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        given, named = fx.node.map_aggregate((args, kwargs), self._to_value)
        self._values[proxy.node] = self._compute(kind, target, given, named)
        return proxy

    def _to_value(self, argument: Any) -> Any:
        return self.value(argument) if isinstance(argument, fx.Proxy) else argument

    @torch.no_grad()
    def _compute(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self._inputs[target]
        if kind == "get_attr":
            return operator.attrgetter(target)(self.root)
        if kind == "call_module":
            return self._next_call(self.root.get_submodule(target)).output
        return target(*args, **kwargs) if kind == "call_function" else getattr(args[0], target)(*args[1:], **kwargs)

    def _next_call(self, module: nn.Module) -> Call:
        return next(call for call in self._pending[-1] if call.module is module)

    def inline(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._pending.append(iter(self._next_call(module).calls))
        try:
            return super().inline(module, forward, args, kwargs)
        finally:
            self._pending.pop()

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = self.value(obj)
        if isinstance(value, torch.Tensor):
            return bool(super().to_bool(obj))
        self._fix(obj.node)
        return bool(value)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = self.value(obj)
        if isinstance(value, tuple | list):
            return iter([obj[index] for index in range(len(value))])  # type: ignore[index] # a proxy of a sequence
        return super().iter(obj)


class _ValueProxy(fx.Proxy):
    """A proxy that knows its length and its number."""

    tracer: ValueTracer

    def __getattr__(self, name: str) -> Any:
        if name in _PROPERTIES:
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(self.tracer.value(self))

    def __int__(self) -> int:
        return int(self._number())

    def __index__(self) -> int:
        return operator.index(self._number())

    def _number(self) -> Any:
        value = self.tracer.value(self)
        if isinstance(value, torch.Tensor):
            raise fx.proxy.TraceError("a number depends on the values of a tensor")
        self.tracer._fix(self.node)
        return value
