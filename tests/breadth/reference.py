"""The residual branches of any model, found by watching it, and the model without some of them.

This is what `rdp.Schedule` is measured against, so it shares no code and no idea with it: nothing is traced by
torch.fx, no class and no name of a child is known, and no module is changed. One forward pass of an untouched copy runs
under a `TorchFunctionMode`, which sees every addition and the module whose ``forward`` makes it. In the autograd graph
of that pass, an addition is an *identity skip* if the value of one operand, the shortcut, was used to compute the
other, the branch; or if the shortcut is an input of the module that adds, and the branch is computed there from another
input. The parameters that reach the output through the branch only are its own.

To drop a branch is to replace the sum by its shortcut. The same mode does that in another forward pass, so that outputs
and gradients of the model without a branch come from autograd itself.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import nn

from tests.breadth.graph import Graph, edge_of
from tests.breadth.skips import Event, Skip, find_skips
from tests.breadth.watching import Additions, Frame


class Result(NamedTuple):
    """Outputs of a pass, detached, and the gradient of each parameter by name; None if it does not reach the loss."""

    outputs: list[torch.Tensor]
    gradients: dict[str, torch.Tensor | None]


def tensors(outputs: Any) -> list[torch.Tensor]:
    """The tensors of floating point numbers in what a model returns, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    return [t for value in outputs for t in tensors(value)] if isinstance(outputs, list | tuple) else []


def loss(outputs: list[torch.Tensor]) -> torch.Tensor:
    """A fixed random direction of all outputs, so that no normalisation at the end makes it constant."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack([(o * torch.randn(o.shape, generator=generator)).mean() for o in outputs]).sum()


def run(model: nn.Module, inputs: Mapping[str, Any]) -> Result:
    """A forward and backward pass of a model as it is; leaves no gradients. ``inputs`` are named as in `call`."""
    model.zero_grad(set_to_none=True)
    outputs = tensors(call(model, inputs))
    loss(outputs).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return Result([o.detach() for o in outputs], gradients)


def call(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """Call a model; the input named ``x`` is positional, all others are keywords."""
    given = dict(inputs)
    return model(given.pop("x"), **given) if "x" in given else model(**given)


class Reference:
    """A model that is watched, and computed without some of its branches.

    Args:
        model: an untouched copy in training mode, deterministic (no dropout, no droppath). It stays as it is.
        inputs: of its forward pass, see `call`.

    Attributes:
        skips: the identity skips whose branches own parameters, in the order of the forward pass.
        joins: all other additions that a branch may end in: of projected shortcuts, of branches without parameters of
            their own, and of single calls of a module that is called several times.
    """

    def __init__(self, model: nn.Module, inputs: Mapping[str, Any]) -> None:
        self.model = model
        leaves = {k: v.detach().clone().requires_grad_() if _floats(v) else v for k, v in inputs.items()}
        self._inputs = inputs
        events: list[Event] = []

        def record(frames: list[Frame], compute: Any, operands: Any, alpha: float) -> torch.Tensor:
            edges = tuple(edge_of(t) for t in operands)
            shapes = [t.shape for t in operands]
            total: torch.Tensor = compute()
            if total.requires_grad and all(edges):
                where = [(f.path, f.kind, f.call) for f in frames]
                whole = tuple(shape == total.shape for shape in shapes)
                events.append(Event(where, frames[-1].additions, frames[-1].inputs, edges, whole, edge_of(total)))
            return total

        watch = Additions(model, record)
        with watch.watching():
            outputs = tensors(call(model, leaves))
        graph = Graph(outputs, {id(p): name for name, p in model.named_parameters()})
        self.skips, self.joins = find_skips(events, graph)

    def run(self, factors: Mapping[Skip, float] | None = None) -> Result:
        """Outputs and gradients with each of these branches times a factor; 0 replaces the sum by its shortcut."""
        with self._replacing(factors or {}):
            return run(self.model, self._inputs)

    @torch.no_grad()
    def outputs(self, factors: Mapping[Skip, float]) -> list[torch.Tensor]:
        """The outputs of `run` alone."""
        with self._replacing(factors):
            return tensors(call(self.model, self._inputs))

    def _replacing(self, factors: Mapping[Skip, float]) -> AbstractContextManager[None]:
        chosen = {(s.path, number, s.call): (kept, f) for s, f in factors.items() for number, kept in s.sums}

        def replace(frames: list[Frame], compute: Any, operands: Any, alpha: float) -> torch.Tensor:
            frame = frames[-1]
            for of_call in (None, frame.call):
                if (found := chosen.get((frame.path, frame.additions, of_call))) is not None:
                    kept, factor = found
                    if factor == 0:
                        return operands[kept].clone()  # what follows may change the sum in place
                    factors = [factor, factor * alpha]
                    factors[kept] = (1, alpha)[kept]
                    return operands[0] * factors[0] + operands[1] * factors[1]
            return compute()

        return Additions(self.model, replace).watching()


def _floats(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
