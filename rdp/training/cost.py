"""Counted costs of a network: parameters, floating-point operations, and memory of activations.

Matrix products and convolutions are counted as torch does, a multiply-add as two operations. Normalisation,
activations, the optimizer and the matrix exponential of a coder are not counted. Counts are per example: two examples
are counted and the result is halved, so that what a mini-batch shares (a coder) drops out.
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
Branch = Callable[..., torch.Tensor]
Call = tuple[Branch, tuple[Any, ...]]  # a branch and its inputs


def count_parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())


class _FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch does not annotate its __init_subclass__
    """Sums torch's formulas as `FlopCounterMode` does, which would import torch's compiler."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self.flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise the first call imports the compiler in order to disable it

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(function._overloadpacket)
        if formula is None:
            with self:
                result = function.decompose(*args, **kwargs)
            return function(*args, **kwargs) if result is NotImplemented else result
        result = function(*args, **kwargs)
        self.flops += formula(*args, **kwargs, out_val=result)
        return result


def count_flops(function: Callable[[], object]) -> int:
    """Floating-point operations of a function, forward and backward, divided by the number of examples counted."""
    # The math kernel of attention shows its matrix products.
    with _FlopCounter() as counter, sdpa_kernel(SDPBackend.MATH):
        function()
    flops: int = counter.flops
    return flops // _EXAMPLES


def count_activation_bytes(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Bytes that the forward pass of one example keeps for the backward pass, in float32.

    The network, in training mode, stays unchanged but for the running statistics of its norms. Parameters are not
    counted. What a mini-batch shares drops out, because two counts are subtracted.
    """

    def kept(examples: int) -> int:
        storages = {}

        def record(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            output = network(torch.zeros(examples, *input_shape))  # keeps the tensors, and so their addresses
        del output
        own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        return sum(size for address, size in storages.items() if address not in own)

    return (kept(2 * _EXAMPLES) - kept(_EXAMPLES)) // _EXAMPLES


@dataclass(frozen=True)
class UnitCosts:
    """Floating-point operations of each unit for one example, arrays of shape (units,)."""

    forward: np.ndarray  # forward pass
    frozen: np.ndarray  # backward pass without weight gradients
    trained: np.ndarray  # backward pass
    lowest: np.ndarray  # backward pass of the lowest trained unit, which passes no gradient down


class IterationCost:
    """Floating-point operations of one example in an iteration, given its active and trained units.

    Exact if something below the first unit (a stem) has parameters, as in every network of this project: where the
    rest is trained, each unit is assumed to pass a gradient down.

    A copy of the network runs on the CPU in training mode, on two examples. (Torch's meta device avoids the
    arithmetic, but its Python code takes several times as long.) Units are counted when first needed: full iterations
    need only the total.

    Args:
        network: the network; it is not changed.
        input_shape: shape of one example.
        granularity: ``branch`` or ``block``: the kind of units.

    Attributes:
        full: operations of a full iteration.
        forward_full: operations of the full network's forward pass.
        activation_bytes: see `count_activation_bytes`.
        weights: number of parameters of each unit, shape (units,).
    """

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...], granularity: str = "branch") -> None:
        self._network = copy.deepcopy(network).to("cpu").train()
        for parameter in self._network.parameters():
            parameter.requires_grad_(True)
        self._units = Units(self._network, granularity)
        self._x = torch.zeros(_EXAMPLES, *input_shape)
        self.activation_bytes = count_activation_bytes(self._network, input_shape)
        self.full = count_flops(lambda: self._network(self._x).sum().backward())
        with torch.no_grad():
            self.forward_full = count_flops(lambda: self._network(self._x))
        groups = self._units.groups[:-1]
        self.weights = np.array([sum(p.numel() for p in group.parameters) for group in groups], dtype=np.int64)

    @cached_property
    def units(self) -> UnitCosts:
        """Operations of each unit."""
        calls = self._calls()
        rows = [self._count_unit(group, calls[i]) for i, group in enumerate(self._units.groups[:-1])]
        return UnitCosts(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)

    @property
    def rest_forward(self) -> int:
        """Forward pass of everything outside the units."""
        return self.forward_full - int(self.units.forward.sum())

    @property
    def rest_trained(self) -> int:
        """Backward pass of everything outside the units."""
        return self.full - self.forward_full - int(self.units.trained.sum())

    @cached_property
    def rest_frozen(self) -> np.ndarray:
        """Backward pass of the rest without weight gradients, from the loss down to each unit, shape (units,)."""
        return np.array([self._count_rest_above(gates) for gates in self._units.gates], dtype=np.int64)

    def __call__(self, iteration: Iteration) -> int:
        """Operations of one example, forward and backward, without the optimizer step."""
        everything = np.ones(len(self.weights), bool)
        # With a mask per example, every branch is computed for all examples.
        active = everything if iteration.active is None or iteration.active.ndim == 2 else iteration.active
        trained = everything if iteration.trained is None else iteration.trained
        if iteration.trained is None and iteration.rest_trained and active is everything:
            return self.full
        forward = self.forward_full - int(self.units.forward[~active].sum())
        if iteration.rest_trained:
            return forward + self.rest_trained + self._backward(active, trained)
        reached = np.flatnonzero(active & trained)
        if not len(reached):
            return forward
        first = reached[0]
        above = np.arange(len(active)) > first
        lowest = int(self.rest_frozen[first] + self.units.lowest[first])
        return forward + lowest + self._backward(active & above, trained)

    def _backward(self, active: np.ndarray, trained: np.ndarray) -> int:
        return int(self.units.trained[active & trained].sum() + self.units.frozen[active & ~trained].sum())

    def updates(self, iteration: Iteration) -> float:
        """The share of the units' parameters that an iteration trains; 1 for a network without units."""
        if iteration.trained is None or not len(self.weights):
            return 1.0
        return float(self.weights[iteration.trained].sum() / self.weights.sum())

    def _calls(self) -> list[list[Call]]:
        """The branches of each unit and their inputs, in the order of the forward pass."""
        calls: list[list[Call]] = [[] for _ in self._units.gates]

        def record(index: int, shortcut: torch.Tensor, branch: Branch, inputs: tuple[Any, ...]) -> torch.Tensor:
            calls[index].append((branch, inputs))
            return shortcut

        for index, gates in enumerate(self._units.gates):
            for gate in gates:
                gate.override = partial(record, index)
        with torch.no_grad():
            self._network(self._x)
        self._units.release()
        return calls

    def _count_unit(self, group: Group, calls: list[Call]) -> tuple[int, int, int, int]:
        """A unit's operations, in the order of `UnitCosts`."""
        with torch.no_grad():
            forward = count_flops(lambda: [branch(*inputs) for branch, inputs in calls])
        passes = ((False, True), (True, True), (True, False))
        frozen, trained, lowest = (self._count_passes(group, calls, *options) - forward for options in passes)
        return forward, frozen, trained, lowest

    def _count_passes(self, group: Group, calls: list[Call], trained: bool, input_gradient: bool) -> int:
        """Forward and backward pass of a unit; ``input_gradient`` is whether its first branch passes a gradient down.

        Its other branches always do, to the first.
        """

        def run() -> None:
            for i, (branch, inputs) in enumerate(calls):
                leaves = [_leaf(value, requires_grad=input_gradient or i > 0) for value in inputs]
                output = branch(*leaves)
                if output.requires_grad:
                    torch.autograd.backward(output.sum())

        for parameter in group.parameters:
            parameter.requires_grad_(trained)
        flops = count_flops(run)
        for parameter in group.parameters:
            parameter.requires_grad_(True)
        return flops

    def _count_rest_above(self, gates: list[Gate]) -> int:
        """Backward pass of the frozen rest, from the loss down to a unit's sum."""
        is_leaf_made = True

        def make_leaf(shortcut: torch.Tensor, branch: Branch, inputs: tuple[Any, ...]) -> torch.Tensor:
            nonlocal is_leaf_made
            if is_leaf_made:
                return shortcut
            is_leaf_made = True
            return shortcut.detach().requires_grad_(True).clone()  # the network may change it in place

        frozen = np.zeros(len(self.weights), bool)
        self._units.apply(Iteration("count", active=frozen, trained=frozen, rest_trained=False))
        for gate in gates:
            gate.override = make_leaf
        with torch.no_grad():
            forward = count_flops(lambda: self._network(self._x))
        is_leaf_made = False
        total = count_flops(lambda: self._network(self._x).sum().backward())
        self._units.release()
        return total - forward


def _leaf(value: object, *, requires_grad: bool) -> object:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().requires_grad_(requires_grad)
    return value
