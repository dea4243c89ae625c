"""Watching a model: every addition of two tensors, and the modules whose ``forward`` is running."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tests.breadth.graph import edge_of


class Frame:
    """A module's call that is running."""

    def __init__(self, path: str, kind: str, call: int, inputs: Iterable[Any]) -> None:
        self.path, self.kind, self.call, self.additions = path, kind, call, 0
        edges = [edge_of(value) for value in inputs if isinstance(value, torch.Tensor)]
        self.inputs = frozenset(edge for edge in edges if edge)


class Additions(TorchFunctionMode):
    """Calls ``at(frames, compute, operands, alpha)`` for each addition of two tensors, in place of ``compute()``."""

    def __init__(self, model: nn.Module, at: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self._paths = {module: path for path, module in model.named_modules()}
        self._at, self._frames, self._calls = at, [], defaultdict[str, int](int)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        names = dict(zip(("input", "other"), args, strict=False)) | kwargs
        operands = (names.get("input"), names.get("other"))
        is_sum = getattr(function, "__name__", "") in {"add", "add_"} and self._frames and "out" not in kwargs
        if not (is_sum and all(isinstance(t, torch.Tensor) and t.is_floating_point() for t in operands)):
            return function(*args, **kwargs)
        result = self._at(self._frames, lambda: function(*args, **kwargs), operands, kwargs.get("alpha", 1))
        self._frames[-1].additions += 1
        return result

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the model in this context; its hooks are removed after it."""

        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            path = self._paths[module]
            self._frames.append(Frame(path, type(module).__name__, self._calls[path], (*args, *kwargs.values())))
            self._calls[path] += 1

        def leave(*_: Any) -> None:
            self._frames.pop()

        hooks = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in self._paths]
        hooks += [module.register_forward_hook(leave, always_call=True) for module in self._paths]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()
