"""Optimizers are bitwise equal to torch's; learning rates and parameter groups."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from rdp.models.coder import Coder
from rdp.spec import Recipe
from rdp.training.optimizers import SGD, AdamW, Optimizer, ParameterGroup, learning_rate, make_optimizer

SCHEDULES = ["cosine", "one_cycle", "constant"]
RATES = (0.1, 0.2, 0.05, 0.07, 0.01, 0.02)
DECAY, FACTOR = 0.03, 0.25


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    return layers.to(dtype, memory_format=torch.channels_last)


def backward(net: nn.Module, step: int, *, halves: bool) -> None:
    """Gradients of every parameter, or in odd steps of the convolution and norm alone, in even ones of the head."""
    dtype = next(net.parameters()).dtype
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(step)).to(dtype)
    for i, parameter in enumerate(net.parameters()):
        parameter.requires_grad_(not halves or (i < 4) == bool(step % 2))
    net(x).square().mean().backward()


def split(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    parameters = list(net.parameters())
    return [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() == 1]


def ours(net: nn.Module, how: SGD | AdamW) -> Optimizer:
    kernels, rest = split(net)
    return Optimizer(how, [ParameterGroup(kernels, 1.0, DECAY), ParameterGroup(rest, FACTOR, 0.0)])


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", [SGD(0.9), SGD(0.0), SGD(0.9, nesterov=True), AdamW()], ids=repr)
def test_it_is_bitwise_equal_to_torchs(how, dtype, halves):
    mine, theirs = network(dtype), network(dtype)
    optimizer = ours(mine, how)
    kernels, rest = split(theirs)
    groups = [{"params": kernels, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    if isinstance(how, SGD):
        reference = torch.optim.SGD(groups, lr=1.0, momentum=how.momentum, nesterov=how.nesterov, fused=True)
        if how.momentum and halves:  # torch's fused step takes no mixture of trained parameters and new ones
            for parameter in theirs.parameters():
                reference.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    else:
        reference = torch.optim.AdamW(groups, lr=1.0, fused=True)
    for step, rate in enumerate(RATES):
        backward(mine, step, halves=halves)
        backward(theirs, step, halves=halves)
        optimizer.step(rate)
        for group, factor in zip(reference.param_groups, (1.0, FACTOR), strict=True):
            group["lr"] = rate * factor
        reference.step()
        reference.zero_grad()
    assert all(map(torch.equal, mine.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize("how", [SGD, AdamW])
@pytest.mark.parametrize("halves", [False, True])
def test_a_restored_state_continues_bitwise_equal(how, halves):
    make = (lambda: SGD(0.9)) if how is SGD else AdamW
    straight, first, second = network(), network(), network()
    one, two, three = ours(straight, make()), ours(first, make()), ours(second, make())
    for step, rate in enumerate(RATES):
        backward(straight, step, halves=halves)
        one.step(rate)
    for step, rate in enumerate(RATES):
        if step == 3:
            second.load_state_dict(first.state_dict())
            # A file keeps no layout.
            three.restore({name: tensor.clone().contiguous() for name, tensor in two.state().items()})
        net, optimizer = (first, two) if step < 3 else (second, three)
        backward(net, step, halves=halves)
        optimizer.step(rate)
    assert all(map(torch.equal, straight.state_dict().values(), second.state_dict().values()))


@pytest.mark.parametrize("how", [SGD(0.9), AdamW()], ids=repr)
def test_a_parameter_without_gradient_is_unchanged_and_has_no_state(how):
    net = network()
    head = list(net.parameters())[4:]
    before = [parameter.detach().clone() for parameter in head]
    optimizer = ours(net, how)
    backward(net, 1, halves=True)
    optimizer.step(0.1)
    assert all(map(torch.equal, before, head))
    assert set(how.state) == set(list(net.parameters())[:4])
    assert all(parameter.grad is None for parameter in net.parameters())


def rates(steps: int = 100, **recipe) -> list[float]:
    return [learning_rate(Recipe(learning_rate=0.4, **recipe), step, steps) for step in range(steps)]


class TestLearningRate:
    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_it_rises_linearly_over_the_warmup(self, schedule):
        found = rates(schedule=schedule, warmup=0.1)
        assert found[:10] == pytest.approx([0.4 * (step + 1) / 10 for step in range(10)])
        assert found[10] == 0.4
        assert max(found) == 0.4

    def test_after_the_warmup_it_follows_its_closed_form(self):
        cosine = [0.2 * (1 + math.cos(math.pi * step / 90)) for step in range(90)]
        assert rates(schedule="cosine", warmup=0.1)[10:] == pytest.approx(cosine)
        linear = [0.4 * (90 - step) / 90 for step in range(90)]
        assert rates(schedule="one_cycle", warmup=0.1)[10:] == pytest.approx(linear)
        assert rates(schedule="constant", warmup=0.1)[10:] == [0.4] * 90

    def test_one_cycle_has_its_peak_at_the_share_warmup(self):
        found = rates(200, schedule="one_cycle", warmup=0.25)
        assert found[:50] == pytest.approx([0.4 * (step + 1) / 50 for step in range(50)])
        assert found[50:] == pytest.approx([0.4 * (200 - step) / 150 for step in range(50, 200)])
        assert [step for step, rate in enumerate(found) if rate == 0.4] == [49, 50]

    @pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
    def test_it_falls_to_almost_0_and_the_last_step_still_learns(self, schedule):
        found = rates(schedule=schedule)
        assert all(later < earlier for earlier, later in pairwise(found[10:]))
        assert 0 < found[-1] < 0.4 / 80
        assert learning_rate(Recipe(learning_rate=0.4, schedule=schedule), 100, 100) == 0

    @pytest.mark.parametrize("schedule", SCHEDULES)
    @pytest.mark.parametrize("warmup", [0, 0.004, 0.99, 0.999])
    @pytest.mark.parametrize("steps", [1, 2, 7, 100])
    def test_it_is_positive_and_bounded_at_every_step_of_short_runs(self, schedule, warmup, steps):
        assert all(0 < rate <= 0.4 for rate in rates(steps, schedule=schedule, warmup=warmup))

    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_without_warmup_it_starts_at_the_peak(self, schedule):
        assert rates(schedule=schedule, warmup=0)[0] == 0.4


class TestOptimizer:
    @pytest.mark.parametrize("kind", ["sgd", "adamw"])
    @pytest.mark.parametrize("path", ["residual", "pnnh"])
    def test_only_matrices_and_kernels_decay_and_every_parameter_is_in_one_group(self, kind, path, make_network):
        network = make_network("resnet20", path)
        optimizer = make_optimizer(network, Recipe(optimizer=kind, weight_decay=0.01))
        decay = {id(p): group.weight_decay for group in optimizer.groups for p in group.parameters}
        assert len(decay) == len(optimizer.parameters)
        assert decay.keys() == {id(p) for p in network.parameters()}
        for name, parameter in network.named_parameters():
            kernel = name.endswith("weight") and parameter.dim() > 1
            assert decay[id(parameter)] == (0.01 if kernel else 0), name

    def test_a_coders_rate_is_divided_by_its_uses(self, make_network):
        network = make_network("resnet20", "pnnh", variant="concat")
        optimizer = make_optimizer(network, Recipe())
        factors = {id(p): group.learning_rate_factor for group in optimizer.groups for p in group.parameters}
        coders = [module.skew for module in network.modules() if isinstance(module, Coder)]
        assert [factors.pop(id(skew)) for skew in coders] == [1 / 6, 1 / 5, 1 / 5]
        assert set(factors.values()) == {1.0}

    def test_each_groups_rate_is_the_schedules_times_its_factor(self, make_spec, make_run):
        spec = make_spec("pnnh", {"variant": "concat"}, epochs=1)
        run = make_run(spec)
        update, rates = run.optimizer.update, []
        run.optimizer.update = lambda parameters, rate, decay: (rates.append(rate), update(parameters, rate, decay))
        run.train(lambda run: None)
        factors = [group.learning_rate_factor for group in run.optimizer.groups]
        assert set(factors) == {1.0, 1 / 8}
        assert rates == [learning_rate(spec.recipe, step, 10) * factor for step in range(10) for factor in factors]

    def test_the_recipe_reaches_the_optimizer(self, make_network):
        network = make_network("mlp8")
        assert make_optimizer(network, Recipe(momentum=0.7)).update == SGD(0.7)
        assert make_optimizer(network, Recipe(nesterov=True)).update == SGD(0.9, nesterov=True)
        assert make_optimizer(network, Recipe(optimizer="adamw")).update == AdamW()
