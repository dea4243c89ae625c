"""Recover iterations at a multiple of the learning rate, in a practitioner's own loop."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rdp
from rdp.errors import UserError
from tests.helpers.tiny import TINY

VIT = TINY["vit"]


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    """Two groups; the learning rate of one is a tensor."""
    groups = [{"params": [p for p in network.parameters() if (p.dim() > 1) == wide]} for wide in (False, True)]
    groups[1]["lr"] = torch.tensor(0.02)
    return torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)


def forward_backward(schedule: rdp.Schedule, step: int) -> float:
    """Compute the gradients of a step; its factor on the learning rate."""
    x, y = VIT.batch(seed=step)
    with schedule.iteration(step) as iteration:
        F.cross_entropy(schedule.model(x), y).backward()
    return iteration.learning_rate_scale


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def watch(optimizer: torch.optim.Optimizer) -> list[list[float]]:
    """The learning rates in each step from now on; attach the optimizer first."""
    seen = []
    optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(rates(optimizer)))
    return seen


@pytest.mark.parametrize("make_optimizer", [sgd, adamw])
class TestAttachedOptimizer:
    def test_a_loop_is_the_one_that_sets_the_rates_by_hand(self, make_optimizer):
        networks = [VIT.build(), VIT.build()]
        optimizers = [make_optimizer(network) for network in networks]
        schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6) for optimizer in optimizers]
        attached = rdp.ResidualDropPath(networks[0], 0.5, recover_lr_scale=3.0)
        by_hand = rdp.ResidualDropPath(networks[1], 0.5)
        attached.attach(optimizers[0])
        factors = []
        for step in range(6):
            factors.append(forward_backward(attached, step))
            optimizers[0].step()

            forward_backward(by_hand, step)
            before = [group["lr"] for group in optimizers[1].param_groups]
            for group in optimizers[1].param_groups:
                group["lr"] = group["lr"] * (3.0 if step % 2 else 1.0)
            optimizers[1].step()
            for group, rate in zip(optimizers[1].param_groups, before, strict=True):
                group["lr"] = rate

            for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
            assert rates(optimizers[0]) == rates(optimizers[1])
        assert factors == [1.0, 3.0] * 3
        states = [network.state_dict().values() for network in networks]
        assert all(torch.equal(*pair) for pair in zip(*states, strict=True))

    def test_attaching_twice_scales_once(self, make_optimizer):
        network = VIT.build()
        schedule, optimizer = rdp.ResidualDropPath(network, 0.5, recover_lr_scale=3.0), make_optimizer(network)
        schedule.attach(optimizer)
        schedule.attach(optimizer)
        seen, expected = watch(optimizer), rates(optimizer)
        for step in range(2):
            forward_backward(schedule, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert seen == [expected, pytest.approx([3 * rate for rate in expected])]
        assert rates(optimizer) == expected

    def test_a_step_that_fails_leaves_no_scaled_rate_to_the_next(self, make_optimizer):
        network = VIT.build()
        schedule, optimizer = rdp.ResidualDropPath(network, 0.5, recover_lr_scale=3.0), make_optimizer(network)
        expected = rates(optimizer)
        schedule.attach(optimizer)
        failing = optimizer.register_step_pre_hook(lambda *_: 1 / 0)
        forward_backward(schedule, 1)
        with pytest.raises(ZeroDivisionError):
            optimizer.step()
        failing.remove()
        seen = watch(optimizer)
        optimizer.step()
        assert seen == [pytest.approx([3 * rate for rate in expected])]
        assert rates(optimizer) == expected

    def test_a_closed_schedule_scales_nothing(self, make_optimizer):
        network = VIT.build()
        optimizer = make_optimizer(network)
        expected = rates(optimizer)
        with rdp.ResidualDropPath(network, 0.5, recover_lr_scale=3.0) as schedule:
            schedule.attach(optimizer)
            forward_backward(schedule, 1)
        seen = watch(optimizer)
        optimizer.step()
        assert seen == [expected]
        with pytest.raises(UserError, match=r"^schedule\.attach: the schedule was closed$"):
            schedule.attach(optimizer)


def test_lbfgs_moves_what_is_frozen_and_is_refused():
    network = VIT.build()
    schedule = rdp.ResidualDropPath(network, 0.5)
    optimizer = torch.optim.LBFGS(network.parameters(), lr=0.01, max_iter=2)
    for step in range(2):
        before = [p.detach().clone() for p in network.parameters()]
        forward_backward(schedule, step)
        frozen = [p.grad is None for p in network.parameters()]
        optimizer.step(lambda: torch.tensor(1.0))
        optimizer.zero_grad()
    assert any(f and not torch.equal(p, b) for f, p, b in zip(frozen, network.parameters(), before, strict=True))
    with pytest.raises(UserError, match=r"^schedule\.attach: LBFGS moves the parameters that an iteration freezes"):
        schedule.attach(optimizer)


def test_a_gradient_scaler_steps_at_the_multiple_too():
    network = VIT.build()
    schedule, optimizer = rdp.ResidualDropPath(network, 0.5, recover_lr_scale=3.0), sgd(network)
    schedule.attach(optimizer)
    seen, scaler = watch(optimizer), torch.amp.GradScaler("cpu")
    for step in range(4):
        x, y = VIT.batch(seed=step)
        with schedule.iteration(step):
            scaler.scale(F.cross_entropy(network(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    assert seen == [[0.05], pytest.approx([0.15])] * 2


def test_without_an_optimizer_a_scaled_step_is_refused_and_the_model_trains_on():
    schedule = rdp.ResidualDropPath(VIT.build(), 0.5, recover_lr_scale=2.0)
    with schedule.iteration(0):
        pass
    message = r"^schedule\.iteration\(1\): .* learning rate by 2; call schedule\.attach\(optimizer\) before"
    with pytest.raises(UserError, match=message), schedule.iteration(1):
        pass
    schedule.attach(sgd(schedule.model))
    assert forward_backward(schedule, 1) == 2.0
