"""What a network costs: parameters and floating-point operations, counted.

Matrix products and convolutions are counted, as torch counts them, a multiply-add as two operations;
normalisation, activations, optimizer and the matrix exponential of a coder are not. All counts are of one example:
two are counted and halved, so that what a mini-batch shares (a coder) does not enter.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rdp.methods import Iteration
from rdp.models.units import Units

_EXAMPLES = 2


def parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters())


def count(work: Callable[[], object]) -> int:
    """Floating-point operations of some work, forward and backward, divided by the number of examples counted."""
    counter = FlopCounterMode(display=False)
    # The matrix products of attention, whichever kernel would fuse them.
    with counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops() // _EXAMPLES


@dataclass(frozen=True)
class IterationCost:
    """Floating-point operations of one example in an iteration, from what is active and what is trained.

    Exact where something below the first unit (a stem) has parameters, as in every network of this project: where
    stem and head are trained, each unit is taken to hand a gradient down.

    Attributes:
        forward: of each unit, shape (units,).
        frozen: each unit's backward pass without gradients of weights, shape (units,).
        trained: each unit's backward pass, shape (units,).
        lowest: each unit's backward pass where nothing below it is trained, so that it hands no gradient down,
            shape (units,).
        rest_forward: of all that belongs to no unit.
        rest_trained: its backward pass.
        rest_frozen: its backward pass without gradients of weights, down to each unit, shape (units,).
        weights: parameters of each unit, shape (units,).
    """

    forward: np.ndarray
    frozen: np.ndarray
    trained: np.ndarray
    lowest: np.ndarray
    rest_forward: int
    rest_trained: int
    rest_frozen: np.ndarray
    weights: np.ndarray

    @property
    def forward_full(self) -> int:
        """Operations of the full network's forward pass."""
        return self.rest_forward + int(self.forward.sum())

    def __call__(self, iteration: Iteration) -> int:
        """Operations of one example, forward and backward; the step of the optimizer is not counted."""
        units = len(self.forward)
        # With masks of their own for each example, every branch is computed for all of them.
        whole = iteration.active is None or iteration.active.ndim == 2
        active = np.ones(units, bool) if whole else iteration.active
        trained = np.ones(units, bool) if iteration.trained is None else iteration.trained
        forward = self.rest_forward + int(self.forward[active].sum())
        if iteration.rest_trained:
            kept = self.trained[active & trained].sum() + self.frozen[active & ~trained].sum()
            return forward + self.rest_trained + int(kept)
        reached = np.flatnonzero(active & trained)
        if not len(reached):
            return forward
        first = reached[0]
        above = np.arange(units) > first
        kept = self.trained[active & trained & above].sum() + self.frozen[active & ~trained & above].sum()
        return forward + int(self.rest_frozen[first] + self.lowest[first] + kept)

    def updates(self, iteration: Iteration) -> float:
        """The share of the units' parameters that an iteration trains; 1 for a network without units."""
        if iteration.trained is None or not len(self.weights):
            return 1.0
        return float(self.weights[iteration.trained].sum() / self.weights.sum())


def iteration_cost(network: nn.Module, input_shape: tuple[int, ...], granularity: str = "branch") -> IterationCost:
    """Count a network's operations by unit.

    A copy of the network without numbers (torch's meta device) is run forward and backward in training mode, so
    that the count costs no arithmetic and leaves the network alone.
    """
    copied = copy.deepcopy(network).to("meta").train()
    for parameter in copied.parameters():
        parameter.requires_grad_(True)
    units = Units(copied, granularity)
    x = torch.zeros(_EXAMPLES, *input_shape, device="meta")

    full = count(lambda: copied(x).sum().backward())
    with torch.no_grad():
        forward = count(lambda: copied(x))
    table = np.array([_unit(units, i, copied, x) for i in range(len(units))], dtype=np.int64).reshape(-1, 4)
    return IterationCost(
        forward=table[:, 0],
        frozen=table[:, 1],
        trained=table[:, 2],
        lowest=table[:, 3],
        rest_forward=forward - int(table[:, 0].sum()),
        rest_trained=full - forward - int(table[:, 2].sum()),
        rest_frozen=np.array([_rest_above(units, i, copied, x) for i in range(len(units))], dtype=np.int64),
        weights=np.array([sum(p.numel() for p in g.parameters) for g in units.groups[:-1]], dtype=np.int64),
    )


def _unit(units: Units, index: int, network: nn.Module, x: torch.Tensor) -> tuple[int, int, int, int]:
    """A unit's operations: forward, and the three backward passes of `IterationCost`."""
    calls: list[tuple[Callable[..., torch.Tensor], tuple]] = []

    def instead(shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple) -> torch.Tensor:
        calls.append((branch, inputs))
        return shortcut

    units.apply(Iteration("count", active=np.zeros(len(units), bool)))
    for gate in units.gates[index]:
        gate.instead = instead
    with torch.no_grad():
        network(x)
    units.release()

    def run(trained: bool, hands_down: bool, *, backward: bool = True) -> int:
        def work() -> None:
            lowest = not hands_down
            for branch, inputs in calls:
                given = [_leaf(value, requires_grad=not lowest) for value in inputs]
                output = branch(*given)
                if backward and output.requires_grad:
                    output.sum().backward()
                lowest = False  # what follows in the same unit hands its gradient down to it

        for parameter in units.groups[index].parameters:
            parameter.requires_grad_(trained)
        counted = count(work)
        for parameter in units.groups[index].parameters:
            parameter.requires_grad_(True)
        return counted

    with torch.no_grad():
        forward = run(True, True, backward=False)
    return forward, run(False, True) - forward, run(True, True) - forward, run(True, False) - forward


def _leaf(value: object, *, requires_grad: bool) -> object:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().requires_grad_(requires_grad)
    return value


def _rest_above(units: Units, index: int, network: nn.Module, x: torch.Tensor) -> int:
    """The backward operations of the frozen rest, from the loss down to a unit's sum."""
    begun = True

    def instead(shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple) -> torch.Tensor:
        nonlocal begun
        if begun:
            return shortcut
        begun = True
        return shortcut.detach().requires_grad_(True)

    frozen = np.zeros(len(units), bool)
    units.apply(Iteration("count", active=frozen, trained=frozen, rest_trained=False))
    for gate in units.gates[index]:
        gate.instead = instead
    with torch.no_grad():
        forward = count(lambda: network(x))
    begun = False
    total = count(lambda: network(x).sum().backward())
    units.release()
    return total - forward
