"""What a network costs: parameters and floating-point operations, counted.

Matrix products and convolutions are counted, as torch counts them, a multiply-add as two operations;
normalisation, activations, optimizer and the matrix exponential of a coder are not. All counts are of one example:
two are counted and halved, so that what a mini-batch shares (a coder) does not enter.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from rdp.methods import Iteration
from rdp.models.gates import Gate
from rdp.models.units import Group, Units

_EXAMPLES = 2


def parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters())


class _Counter(TorchDispatchMode):
    """Adds up torch's formulas for what is called, as its `FlopCounterMode` does, which imports torch's compiler."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or the first call would import it to keep it out

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        formula = flop_registry.get(function._overloadpacket)
        if formula is None:
            with self:
                parts = function.decompose(*arguments, **named)
            return function(*arguments, **named) if parts is NotImplemented else parts
        result = function(*arguments, **named)
        self.operations += formula(*arguments, **named, out_val=result)
        return result


def count(work: Callable[[], object]) -> int:
    """Floating-point operations of some work, forward and backward, divided by the number of examples counted."""
    # The matrix products of attention, whichever kernel would fuse them.
    with _Counter() as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.operations // _EXAMPLES


@dataclass(frozen=True)
class UnitCosts:
    """Floating-point operations of each unit for one example, arrays of shape (units,).

    Attributes:
        forward: its forward pass.
        frozen: its backward pass without gradients of weights.
        trained: its backward pass.
        lowest: its backward pass where nothing below it is trained, so that it hands no gradient down.
    """

    forward: np.ndarray
    frozen: np.ndarray
    trained: np.ndarray
    lowest: np.ndarray


class IterationCost:
    """Floating-point operations of one example in an iteration, from what is active and what is trained.

    Exact where something below the first unit (a stem) has parameters, as in every network of this project: where
    stem and head are trained, each unit is taken to hand a gradient down.

    A copy of the network is run forward and backward on the CPU in training mode, on two examples, which leaves the
    network alone. (Torch's meta device would spare the arithmetic, and takes several times as long in Python.) Units
    are counted when an iteration first tells them apart; full iterations need no more than the whole.

    Args:
        network: what is counted.
        input_shape: of one example.
        granularity: ``branch`` or ``block``: what is one unit.

    Attributes:
        full: of a full iteration.
        forward_full: of the full network's forward pass.
        weights: parameters of each unit, shape (units,).
    """

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...], granularity: str = "branch") -> None:
        self._network = copy.deepcopy(network).to("cpu").train()
        for parameter in self._network.parameters():
            parameter.requires_grad_(True)
        self._units = Units(self._network, granularity)
        self._x = torch.zeros(_EXAMPLES, *input_shape)
        self.full = count(lambda: self._network(self._x).sum().backward())
        with torch.no_grad():
            self.forward_full = count(lambda: self._network(self._x))
        groups = self._units.groups[:-1]
        self.weights = np.array([sum(p.numel() for p in group.parameters) for group in groups], dtype=np.int64)

    @cached_property
    def units(self) -> UnitCosts:
        """What each unit costs."""
        calls = self._calls()
        rows = [self._count_unit(group, calls[i]) for i, group in enumerate(self._units.groups[:-1])]
        return UnitCosts(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)

    @property
    def rest_forward(self) -> int:
        """The forward pass of all that belongs to no unit."""
        return self.forward_full - int(self.units.forward.sum())

    @property
    def rest_trained(self) -> int:
        """Its backward pass."""
        return self.full - self.forward_full - int(self.units.trained.sum())

    @cached_property
    def rest_frozen(self) -> np.ndarray:
        """Its backward pass without gradients of weights, down to each unit, shape (units,)."""
        return np.array([self._rest_above(gates) for gates in self._units.gates], dtype=np.int64)

    def __call__(self, iteration: Iteration) -> int:
        """Operations of one example, forward and backward; the step of the optimizer is not counted."""
        # With masks of their own for each example, every branch is computed for all of them.
        whole = iteration.active is None or iteration.active.ndim == 2
        if whole and iteration.trained is None and iteration.rest_trained:
            return self.full
        units = len(self.weights)
        active = np.ones(units, bool) if whole else iteration.active
        trained = np.ones(units, bool) if iteration.trained is None else iteration.trained
        of = self.units
        forward = self.forward_full - int(of.forward[~active].sum())
        if iteration.rest_trained:
            kept = of.trained[active & trained].sum() + of.frozen[active & ~trained].sum()
            return forward + self.rest_trained + int(kept)
        reached = np.flatnonzero(active & trained)
        if not len(reached):
            return forward
        first = reached[0]
        above = np.arange(units) > first
        kept = of.trained[active & trained & above].sum() + of.frozen[active & ~trained & above].sum()
        return forward + int(self.rest_frozen[first] + of.lowest[first] + kept)

    def updates(self, iteration: Iteration) -> float:
        """The share of the units' parameters that an iteration trains; 1 for a network without units."""
        if iteration.trained is None or not len(self.weights):
            return 1.0
        return float(self.weights[iteration.trained].sum() / self.weights.sum())

    def _calls(self) -> list[list[tuple[Callable[..., torch.Tensor], tuple]]]:
        """The branches of each unit, with what they are called on, in the order of the forward pass."""
        calls: list[list[tuple[Callable[..., torch.Tensor], tuple]]] = [[] for _ in self._units.gates]

        def note(
            index: int, shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple
        ) -> torch.Tensor:
            calls[index].append((branch, inputs))
            return shortcut

        for index, gates in enumerate(self._units.gates):
            for gate in gates:
                gate.override = partial(note, index)
        with torch.no_grad():
            self._network(self._x)
        self._units.release()
        return calls

    def _count_unit(self, group: Group, calls: list[tuple[Callable[..., torch.Tensor], tuple]]) -> tuple[int, ...]:
        """A unit's operations, as `UnitCosts` has them."""

        def run(trained: bool, hands_down: bool, *, backward: bool = True) -> int:
            def work() -> None:
                lowest = not hands_down
                for branch, inputs in calls:
                    given = [_leaf(value, requires_grad=not lowest) for value in inputs]
                    output = branch(*given)
                    if backward and output.requires_grad:
                        output.sum().backward()
                    lowest = False  # what follows in the same unit hands its gradient down to it

            for parameter in group.parameters:
                parameter.requires_grad_(trained)
            counted = count(work)
            for parameter in group.parameters:
                parameter.requires_grad_(True)
            return counted

        with torch.no_grad():
            forward = run(True, True, backward=False)
        return forward, run(False, True) - forward, run(True, True) - forward, run(True, False) - forward

    def _rest_above(self, gates: list[Gate]) -> int:
        """The backward operations of the frozen rest, from the loss down to a unit's sum."""
        begun = True

        def instead(shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple) -> torch.Tensor:
            nonlocal begun
            if begun:
                return shortcut
            begun = True
            return shortcut.detach().requires_grad_(True)

        frozen = np.zeros(len(self.weights), bool)
        self._units.apply(Iteration("count", active=frozen, trained=frozen, rest_trained=False))
        for gate in gates:
            gate.override = instead
        with torch.no_grad():
            forward = count(lambda: self._network(self._x))
        begun = False
        total = count(lambda: self._network(self._x).sum().backward())
        self._units.release()
        return total - forward


def _leaf(value: object, *, requires_grad: bool) -> object:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().requires_grad_(requires_grad)
    return value
