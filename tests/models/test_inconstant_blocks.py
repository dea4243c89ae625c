"""Blocks that compute more than a function of their input: random numbers, attributes, modes of autograd."""

import random
import types
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from transformers.utils import ModelOutput

import rdp
from rdp.errors import UserError

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        self.scale, self.calls, self.on = 1.0, 0, True

    def forward(self, x):
        return self.f(x)


class Scaled(Branch):
    def forward(self, x):
        return x + self.scale * self.f(x)


class Switched(Branch):
    def forward(self, x):
        return x + self.f(x) if self.on else x + self.f(2 * x)


class Shaken(Branch):
    def forward(self, x):
        return x + random.random() * self.f(x)


class Dropped(Branch):
    def forward(self, x):
        if self.training and torch.rand(1).item() < 0.5:
            return x
        return x + self.f(x)


class Counting(Branch):
    def forward(self, x):
        self.calls += 1
        return x + self.f(x)


class WithoutGradients(Branch):
    def forward(self, x):
        with torch.no_grad():
            g = self.f[0](x)
        return x + self.f(x) * g


class InFloat32(Branch):
    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return x + self.f(x)


class WithDropPath(Branch):
    def __init__(self) -> None:
        super().__init__()
        self.drop_path = DropPath(0.0)

    def forward(self, x):
        return x + self.drop_path(self.f(x))


@dataclass
class Output(ModelOutput):
    last_hidden_state: torch.Tensor | None = None


class Named(Branch):
    def forward(self, x):
        return Output(last_hidden_state=x + self.f(x))


class First(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x).last_hidden_state


def network(*kinds: type[nn.Module], blocks: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*[kind() for kind in kinds for _ in range(blocks)], nn.Linear(8, 3))


def schedule_of(model: nn.Module, **options) -> rdp.Schedule:
    return rdp.ResidualDropPath(model, rate=0.5, schedule="uniform", seed=1, **{"scaling": "none"} | options)


def dropped(model: nn.Sequential, schedule: rdp.Schedule) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of a drop iteration, and the same computed by hand from the iteration's mask."""
    with schedule.iteration(0) as iteration:
        output = model(X)
    assert iteration.active is not None
    x = X
    for block, active in zip(model[:-1], iteration.active, strict=True):
        x = block(x) if active else x
    return output, model[-1](x)


def set_all(model: nn.Sequential, **values) -> None:
    for block in model[:-1]:
        for name, value in values.items():
            setattr(block, name, value)


@pytest.mark.parametrize(("kind", "values"), [(Scaled, {"scale": 0.3}), (Switched, {"on": False})])
def test_an_attribute_that_changes_later_is_followed(kind: type[nn.Module], values: dict) -> None:
    model = network(kind)
    schedule = schedule_of(model)
    before, expected = dropped(model, schedule)
    assert torch.equal(before, expected)
    set_all(model, **values)
    schedule._last_step = -1
    after, expected = dropped(model, schedule)
    assert torch.equal(after, expected)
    assert not torch.equal(after, before)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Shaken, "its forward draws random numbers"),
        (Dropped, "its forward draws random numbers"),
        (Counting, "its forward changes its attribute 'calls'"),
        (WithoutGradients, "a part of it runs without gradients"),
        (InFloat32, "a part of it runs with its own autocast setting"),
    ],
)
def test_a_network_of_blocks_that_cannot_be_traced_truly_is_refused(kind: type[nn.Module], reason: str) -> None:
    model = network(kind)
    for seed in range(4):
        torch.manual_seed(seed)
        with pytest.raises(UserError, match=f"no residual branch .* Left out: {kind.__name__}: .*{reason}"):
            schedule_of(model)
    assert [type(block) for block in model[:-1]] == [kind] * 4


def test_such_blocks_beside_others_are_named_in_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"\d: its branches are no units: Shaken: .* draws random numbers") as warned:
        schedule = schedule_of(network(Scaled, Shaken))
    assert schedule.units == ["0", "1", "2", "3"]
    assert len(warned) == 4


def test_making_a_schedule_draws_no_random_numbers() -> None:
    model = network(Scaled, Shaken, Dropped)
    states = torch.get_rng_state(), random.getstate()
    with pytest.warns(UserWarning, match="draws random numbers"):
        schedule_of(model)
    assert random.getstate() == states[1]
    assert torch.equal(torch.get_rng_state(), states[0])


def test_a_droppath_rate_that_is_raised_later_is_refused() -> None:
    model = network(WithDropPath)
    schedule = schedule_of(model)
    model[2].drop_path.drop_prob = 0.9
    with pytest.raises(UserError, match=r"\A2\.drop_path: the model's own droppath is active, with probability 0\.9"):
        schedule.iteration(0).__enter__()


def replace(block: nn.Module) -> Callable:
    """Wrap a block's forward, as accelerate's hooks do."""
    old = block.forward
    return types.MethodType(lambda self, x: old(x), block)


def test_a_forward_that_is_replaced_is_refused_and_works_after_close() -> None:
    model = network(Scaled)
    expected = model(X)
    schedule = schedule_of(model)
    model[1].forward = replace(model[1])
    with pytest.raises(UserError, match=r"\A1: its forward was replaced while a schedule controls it; close"):
        schedule.iteration(0).__enter__()
    schedule.close()
    assert torch.equal(model(X), expected)


def test_a_named_output_keeps_its_class_where_the_branch_is_dropped() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[First(Named()) for _ in range(4)], nn.Linear(8, 3))
    output, expected = dropped(model, schedule_of(model))
    assert torch.equal(output, expected) or torch.allclose(output, expected)
