"""SGD with momentum and AdamW: torch's fused functional steps, without the `torch.optim.Optimizer` class.

Constructing a `torch.optim.Optimizer` imports torch's compiler, which takes seconds of every job, and its bookkeeping
takes a tenth of a step of a small network. Results are bitwise those of the class. A parameter without a gradient is
not updated: no decay, no momentum, no step counted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

if TYPE_CHECKING:
    from rdp.spec import Recipe

State = dict[nn.Parameter, dict[str, torch.Tensor]]


@dataclass
class SGD:
    """Stochastic gradient descent with momentum, of Nesterov's kind or not; weight decay is added to the gradient."""

    momentum: float
    nesterov: bool = False
    state: State = field(default_factory=dict)

    def __call__(self, parameters: list[nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        buffers: list[torch.Tensor | None] = [None] * len(parameters)
        if self.momentum:
            # Zeros at first, so that new parameters are updated in the same call as the others.
            buffers = [_state(self.state, parameter, "momentum_buffer")[0] for parameter in parameters]
        sgd(
            list[torch.Tensor](parameters),
            _gradients(parameters),
            buffers,
            momentum=self.momentum,
            lr=learning_rate,
            weight_decay=weight_decay,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            foreach=False,
            fused=True,
        )


@dataclass
class AdamW:
    """Adam with decoupled weight decay and torch's default betas and epsilon."""

    state: State = field(default_factory=dict)

    def __call__(self, parameters: list[nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        states = [_state(self.state, parameter, "exp_avg", "exp_avg_sq", "step") for parameter in parameters]
        adamw(
            list[torch.Tensor](parameters),
            _gradients(parameters),
            [state[0] for state in states],
            [state[1] for state in states],
            [],
            [state[2] for state in states],
            lr=learning_rate,
            weight_decay=weight_decay,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
            foreach=False,
            fused=True,
        )


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with the same learning rate factor and weight decay."""

    parameters: list[nn.Parameter]
    learning_rate_factor: float
    weight_decay: float


class Optimizer:
    """Updates the parameters of a network, group by group."""

    def __init__(self, update: SGD | AdamW, groups: list[ParameterGroup]) -> None:
        self.update, self.groups = update, groups

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Parameters of all groups, in order."""
        return [parameter for group in self.groups for parameter in group.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update all parameters that have a gradient, and set the gradients to None."""
        for group in self.groups:
            trained = [parameter for parameter in group.parameters if parameter.grad is not None]
            if trained:
                self.update(trained, learning_rate * group.learning_rate_factor, group.weight_decay)
            for parameter in trained:
                parameter.grad = None

    def state(self) -> dict[str, torch.Tensor]:
        """The state tensors, with keys ``<parameter index>/<name>``."""
        states = self.update.state
        return {f"{i}/{k}": t for i, p in enumerate(self.parameters) if p in states for k, t in states[p].items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Load a state that `state` returned."""
        parameters = self.parameters
        self.update.state.clear()
        for key, tensor in state.items():
            index, _, name = key.partition("/")
            own = self.update.state.setdefault(parameters[int(index)], {})
            # In the parameter's memory format, which files do not store: fused steps iterate in memory order.
            own[name] = _empty(parameters[int(index)], name).copy_(tensor)


def _gradients(parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _state(states: State, parameter: nn.Parameter, *names: str) -> list[torch.Tensor]:
    """State tensors of a parameter, zeros if it has none yet."""
    if parameter not in states:
        states[parameter] = {name: _empty(parameter, name).zero_() for name in names}
    return [states[parameter][name] for name in names]


def _empty(parameter: nn.Parameter, name: str) -> torch.Tensor:
    if name == "step":
        return torch.empty((), dtype=torch.float32, device=parameter.device)
    return torch.empty_like(parameter, requires_grad=False)


def learning_rate(recipe: "Recipe", step: int, steps: int) -> float:
    """The learning rate of optimizer step ``step`` out of ``steps``: a pure function.

    It rises linearly over the first ``warmup`` share of the steps, at whose end it has its peak. Then ``cosine`` decays
    to 0 along half a cosine, ``one_cycle`` decays to 0 linearly, and ``constant`` stays.

    Raises:
        ValueError: the recipe has no learning rate.
    """
    peak = recipe.learning_rate
    if peak is None:
        raise ValueError("the recipe has no learning rate")
    rise = round(recipe.warmup * steps)
    if step < rise:
        return peak * (step + 1) / rise
    if recipe.schedule == "constant":
        return peak
    progress = (step - rise) / (steps - rise)
    if recipe.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (1 - progress)


def make_optimizer(network: nn.Module, recipe: "Recipe") -> Optimizer:
    """SGD or AdamW for a network, with the groups of `parameter_groups`."""
    update = SGD(recipe.momentum, recipe.nesterov) if recipe.optimizer == "sgd" else AdamW()
    return Optimizer(update, parameter_groups(network, recipe.weight_decay))


def parameter_groups(
    network: nn.Module, weight_decay: float, scales: Mapping[str, float] = MappingProxyType({})
) -> list[ParameterGroup]:
    """The parameters of a network by learning rate factor and weight decay.

    Parameters of two or more dimensions decay, but not those that a method ``no_weight_decay`` of a module that
    contains them lists: names in that module, or patterns with wildcards, as in timm's models. The factor is the
    attribute ``learning_rate_factor`` of the module that holds the parameter, or 1, times the factor in ``scales``, by
    the parameter's name.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    kept: list[tuple[str, str]] = []  # the first part of names, and a pattern for the rest
    seen: set[int] = set()
    for path, module in network.named_modules():
        prefix = f"{path}." if path else ""
        if callable(listed := getattr(module, "no_weight_decay", None)):
            kept += [(prefix, pattern) for pattern in listed()]
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = prefix + own
            is_kept = any(name.startswith(start) and fnmatchcase(name[len(start) :], rest) for start, rest in kept)
            decays = parameter.dim() > 1 and not is_kept
            factor = getattr(module, "learning_rate_factor", 1.0) * scales.get(name, 1.0)
            groups.setdefault((factor, weight_decay if decays else 0.0), []).append(parameter)
    return [ParameterGroup(parameters, *key) for key, parameters in groups.items()]
