"""SGD with momentum and AdamW: torch's own fused steps, without the class around them.

Making a `torch.optim.Optimizer` imports torch's compiler, which takes seconds of every job, and its bookkeeping takes
a tenth of a step of a small network. Here is what recipes need of it. Numbers are the same to the last bit.

A parameter without gradient is left alone: no decay, no momentum, no step counted.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

if TYPE_CHECKING:
    from rdp.spec import Recipe

_BETAS, _EPS = (0.9, 0.999), 1e-8  # torch's defaults
_SUPPORTED_ONLY = {"foreach": False, "fused": True, "maximize": False}


class Step(Protocol):
    """How some parameters are updated: in place, with state of their own by name."""

    state: dict[nn.Parameter, dict[str, torch.Tensor]]

    def __call__(self, parameters: list[nn.Parameter], rate: float, decay: float) -> None: ...


@dataclass
class SGD:
    """Stochastic gradient descent with momentum, the decay added to the gradient."""

    momentum: float
    state: dict[nn.Parameter, dict[str, torch.Tensor]] = field(default_factory=dict)

    def __call__(self, parameters: list[nn.Parameter], rate: float, decay: float) -> None:
        buffers: list[Any] = [None] * len(parameters)
        if self.momentum:
            # From 0, so that those that are new among them are updated in the same call.
            buffers = [_state(self.state, parameter, "momentum_buffer")[0] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters]
        options = {"momentum": self.momentum, "dampening": 0.0, "nesterov": False}
        sgd(parameters, gradients, buffers, lr=rate, weight_decay=decay, **options, **_SUPPORTED_ONLY)


@dataclass
class AdamW:
    """Adam with decay apart from the gradient."""

    state: dict[nn.Parameter, dict[str, torch.Tensor]] = field(default_factory=dict)

    def __call__(self, parameters: list[nn.Parameter], rate: float, decay: float) -> None:
        names = ("exp_avg", "exp_avg_sq", "step")
        found = [_state(self.state, parameter, *names) for parameter in parameters]
        averages, squares, steps = ([state[i] for state in found] for i in range(3))
        gradients = [parameter.grad for parameter in parameters]
        options = {"beta1": _BETAS[0], "beta2": _BETAS[1], "eps": _EPS, "amsgrad": False}
        given = (parameters, gradients, averages, squares, [], steps)
        adamw(*given, lr=rate, weight_decay=decay, **options, **_SUPPORTED_ONLY)


@dataclass(frozen=True)
class Group:
    """Parameters that share a factor on the learning rate and a decay."""

    parameters: list[nn.Parameter]
    factor: float
    decay: float


class Optimizer:
    """Updates the parameters of a network, group by group."""

    def __init__(self, how: Step, groups: list[Group]) -> None:
        self.how, self.groups = how, groups

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Of all groups, in their order."""
        return [parameter for group in self.groups for parameter in group.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update all parameters that have a gradient, and forget the gradients."""
        for group in self.groups:
            trained = [parameter for parameter in group.parameters if parameter.grad is not None]
            if trained:
                self.how(trained, learning_rate * group.factor, group.decay)
            for parameter in trained:
                parameter.grad = None

    def state(self) -> dict[str, torch.Tensor]:
        """The state of each parameter that has one, by the parameter's place and the state's name."""
        of = self.how.state
        return {f"{i}/{k}": t for i, p in enumerate(self.parameters) if p in of for k, t in of[p].items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take up a state that `state` gave."""
        parameters = self.parameters
        self.how.state.clear()
        for name, tensor in state.items():
            place, _, key = name.partition("/")
            own = self.how.state.setdefault(parameters[int(place)], {})
            # In the parameter's layout, which no file keeps: fused steps go through memory in its order.
            own[key] = _empty(parameters[int(place)], key).copy_(tensor)


def _state(state: dict[nn.Parameter, dict[str, torch.Tensor]], of: nn.Parameter, *names: str) -> list[torch.Tensor]:
    """A parameter's state, made of zeros where there is none yet."""
    if of not in state:
        state[of] = {name: _empty(of, name).zero_() for name in names}
    return [state[of][name] for name in names]


def _empty(parameter: nn.Parameter, name: str) -> torch.Tensor:
    if name == "step":
        return torch.empty((), dtype=torch.float32, device=parameter.device)
    return torch.empty_like(parameter, requires_grad=False)


def learning_rate(recipe: "Recipe", step: int, steps: int) -> float:
    """The learning rate of optimizer step ``step`` out of ``steps``: a pure function.

    It rises linearly over the first ``warmup`` share of the steps; then ``cosine`` falls to 0 along half a
    cosine, ``one_cycle`` falls to 0 linearly, and ``constant`` stays.
    """
    rise = round(recipe.warmup * steps)
    if step < rise:
        return recipe.learning_rate * (step + 1) / rise
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - rise) / (steps - rise)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return recipe.learning_rate * (1 - done)


def make_optimizer(network: nn.Module, recipe: "Recipe") -> Optimizer:
    """SGD or AdamW; weight decay on matrices and kernels alone; a parameter may scale its learning rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        decays = parameter.dim() > 1 and not getattr(parameter, "no_weight_decay", False)
        factor = getattr(parameter, "learning_rate_factor", 1.0)
        groups.setdefault((factor, recipe.weight_decay if decays else 0.0), []).append(parameter)
    how = SGD(recipe.momentum) if recipe.optimizer == "sgd" else AdamW()
    return Optimizer(how, [Group(parameters, *key) for key, parameters in groups.items()])
