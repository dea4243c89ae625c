"""A practitioner's own loop: what it computes with a schedule, step by step, against loops written by hand."""

import copy

import numpy as np
import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional as F

import rdp
from rdp.models.residual_drop_path import make_method
from tests.helpers.tiny import TINY, Tiny, set_factors

VIT = TINY["vit"]
# At 1/2 a kept branch is doubled, which rounds nothing in whatever order it is done.
HALF = {"rate": 0.5, "schedule": "uniform"}


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)


def steps_of(tiny: Tiny, schedule: rdp.Schedule, optimizer: torch.optim.Optimizer, steps: range) -> list:
    """The losses and plans of the loop that the documentation shows."""
    done = []
    for step in steps:
        x, y = tiny.batch(seed=step)
        with schedule.iteration(step, batch_size=len(x)) as planned:
            loss = F.cross_entropy(schedule.model(x), y)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done.append((loss.item(), planned))
    return done


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("make_optimizer", [sgd, adamw])
@pytest.mark.parametrize("name", ["resnet", "vit", "convnext", "swin", "torchvision"])
class TestPlainLoop:
    def test_it_is_the_loop_over_cut_and_frozen_models_written_by_hand(self, name, make_optimizer):
        tiny = TINY[name]
        network = tiny.build()
        reference = tiny.by_hand(network)
        schedule = rdp.ResidualDropPath(network, **HALF, seed=1)
        losses = steps_of(tiny, schedule, make_optimizer(network), range(4))
        optimizer = make_optimizer(reference)
        for step, (loss, planned) in enumerate(losses):
            assert planned.kind == ("recover" if step % 2 else "drop")
            trained = {unit for unit, is_trained in zip(tiny.units, planned.trained, strict=True) if is_trained}
            if step % 2 == 0:
                dropped = {*tiny.units} - trained
                set_factors(reference, [0.0 if unit in dropped else 2.0 for unit in tiny.units])
                trained = trained | {None}
            else:
                assert trained == dropped
                set_factors(reference, [1.0] * len(tiny.units))
            for key, parameter in reference.named_parameters():
                parameter.requires_grad_(tiny.owner(key) in trained)
            x, y = tiny.batch(seed=step)
            expected = F.cross_entropy(reference(x), y)
            assert loss == expected.item()
            expected.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert same_weights(network, reference)

    @pytest.mark.parametrize("method", ["residual_droppath", "droppath", "droppath_batch", "random_freeze"])
    def test_at_rate_0_it_is_vanilla_bit_for_bit(self, name, make_optimizer, method):
        tiny = TINY[name]
        network, vanilla = tiny.build(), tiny.build()
        losses = steps_of(tiny, rdp.Schedule(network, make_method(method, rate=0)), make_optimizer(network), range(3))
        optimizer = make_optimizer(vanilla)
        for step, (loss, planned) in enumerate(losses):
            assert planned.kind == "full"
            x, y = tiny.batch(seed=step)
            expected = F.cross_entropy(vanilla(x), y)
            expected.backward()
            optimizer.step()
            optimizer.zero_grad()
            assert loss == expected.item()
        assert same_weights(network, vanilla)


@pytest.mark.parametrize("make_optimizer", [sgd, adamw])
@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_what_is_frozen_keeps_its_value_its_momentum_and_its_count_of_steps_to_the_bit(name, make_optimizer):
    tiny = TINY[name]
    network = tiny.build()
    optimizer, schedule = make_optimizer(network), rdp.ResidualDropPath(network, 0.5)
    updates = dict.fromkeys([key for key, _ in network.named_parameters()], 0)
    for step in range(16):
        values = {key: p.detach().clone() for key, p in network.named_parameters()}
        states = {key: copy.deepcopy(optimizer.state.get(p)) for key, p in network.named_parameters()}
        ((_, planned),) = steps_of(tiny, schedule, optimizer, range(step, step + 1))
        trained = {unit for unit, is_trained in zip(tiny.units, planned.trained, strict=True) if is_trained}
        if planned.rest_trained:
            trained.add(None)
        for key, parameter in network.named_parameters():
            state = optimizer.state.get(parameter)
            if tiny.owner(key) in trained:
                updates[key] += 1
                assert not torch.equal(parameter, values[key]), key
            else:
                assert torch.equal(parameter, values[key]), key
                assert (state is None) == (states[key] is None)
                for entry in state or {}:
                    assert torch.equal(state[entry], states[key][entry]), (key, entry)
    assert set(updates.values()) == {8}  # once a pair
    if make_optimizer is adamw:
        assert {state["step"].item() for state in optimizer.state.values()} == {8}


@pytest.mark.parametrize("make_optimizer", [sgd, adamw])
@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_gradients_may_be_cleared_between_forward_and_backward_pass(name, make_optimizer):
    """As in torchvision's reference script and earlier versions of timm's, which step inside the iteration too."""
    tiny = TINY[name]
    networks = [tiny.build(), tiny.build()]
    expected = steps_of(tiny, rdp.ResidualDropPath(networks[0], 0.5), make_optimizer(networks[0]), range(6))
    schedule, optimizer = rdp.ResidualDropPath(networks[1], 0.5), make_optimizer(networks[1])
    for step in range(6):
        x, y = tiny.batch(seed=step)
        with schedule.iteration(step):
            loss = F.cross_entropy(networks[1](x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() == expected[step][0]
    assert same_weights(*networks)


class TestMixedPrecision:
    @pytest.mark.parametrize("name", ["resnet", "vit"])
    def test_under_autocast_it_is_the_cut_and_frozen_model_under_autocast(self, name):
        tiny = TINY[name]
        network = tiny.build()
        reference, schedule = tiny.by_hand(network), rdp.ResidualDropPath(network, **HALF)
        x, y = tiny.batch()
        for step in range(6):
            logits = []
            with schedule.iteration(step) as planned:
                kept = planned.active if planned.kind == "drop" else np.ones(len(tiny.units), bool)
                set_factors(reference, (kept * (2.0 if planned.kind == "drop" else 1.0)).tolist())
                for model in (network, reference):
                    with torch.autocast("cpu", torch.bfloat16):
                        logits.append(model(x))
                        F.cross_entropy(logits[-1], y).backward()
            assert logits[0].dtype == torch.bfloat16
            assert torch.equal(logits[0], logits[1])
            for (key, parameter), other in zip(network.named_parameters(), reference.parameters(), strict=True):
                if parameter.grad is not None:
                    assert torch.equal(parameter.grad, other.grad), key
            assert any(p.grad is None for p in network.parameters())
            network.zero_grad()
            reference.zero_grad()

    @pytest.mark.parametrize("make_optimizer", [sgd, adamw])
    def test_a_gradient_scaler_changes_nothing(self, make_optimizer):
        networks = [VIT.build(), VIT.build()]
        plain, scaled = (rdp.ResidualDropPath(network, 0.5) for network in networks)
        steps_of(VIT, plain, make_optimizer(networks[0]), range(4))
        optimizer = make_optimizer(networks[1])
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for step in range(4):
            x, y = VIT.batch(seed=step)
            with scaled.iteration(step):
                loss = F.cross_entropy(networks[1](x), y)
                scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        assert scaler.get_scale() == 2.0**10
        assert same_weights(*networks)  # a power of two scales without rounding

    def test_a_second_optimizer_for_the_head_is_stepped_where_the_head_is_trained(self):
        """As the documentation says: a scaler refuses an optimizer without gradients."""
        networks = [VIT.build(), VIT.build()]
        plain, scaled = (rdp.ResidualDropPath(network, 0.5) for network in networks)
        steps_of(VIT, plain, adamw(networks[0]), range(4))
        head = adamw(networks[1].head)
        networks[1].head.requires_grad_(False)
        rest = torch.optim.AdamW([p for p in networks[1].parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
        networks[1].head.requires_grad_(True)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for step in range(4):
            x, y = VIT.batch(seed=step)
            with scaled.iteration(step) as iteration:
                scaler.scale(F.cross_entropy(networks[1](x), y)).backward()
            scaler.step(rest)
            if iteration.rest_trained:
                scaler.step(head)
            else:
                with pytest.raises(AssertionError, match="No inf checks were recorded"):
                    scaler.step(head)
            scaler.update()
            rest.zero_grad()
            head.zero_grad()
        assert same_weights(*networks)

    def test_steps_that_a_gradient_scaler_skips_move_nothing(self):
        network = VIT.build()
        schedule, optimizer = rdp.ResidualDropPath(network, 0.5), sgd(network)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        before = copy.deepcopy(network.state_dict())
        for step in range(2):
            with schedule.iteration(step):
                scaler.scale(network(VIT.batch()[0]).sum() * float("inf")).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        assert scaler.get_scale() == 2.0**8
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class TestAccumulation:
    @pytest.mark.parametrize("step", range(4))
    def test_two_halves_of_a_batch_give_the_gradients_of_the_whole(self, step):
        whole, halves = (rdp.ResidualDropPath(VIT.build().double(), 0.5) for _ in range(2))
        x, y = VIT.batch(8)
        with whole.iteration(step):
            F.cross_entropy(whole.model(x.double()), y).backward()
        for part in (slice(4), slice(4, 8)):
            with halves.iteration(step):
                (F.cross_entropy(halves.model(x[part].double()), y[part]) / 2).backward()
        for one, other in zip(whole.model.parameters(), halves.model.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None:
                torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)


class TestClipping:
    def test_it_clips_trained_parameters_only(self):
        network = VIT.build()
        schedule, optimizer = rdp.ResidualDropPath(network, 0.5), sgd(network)
        for step in range(6):
            before = {key: p.detach().clone() for key, p in network.named_parameters()}
            with schedule.iteration(step):
                F.cross_entropy(network(VIT.batch()[0]), VIT.batch()[1]).backward()
            trained = [p for p in network.parameters() if p.grad is not None]
            expected = torch.cat([p.grad.flatten() for p in trained]).norm()
            assert 0 < len(trained) < len(before)
            torch.testing.assert_close(nn.utils.clip_grad_norm_(network.parameters(), 0.01), expected)
            clipped = torch.cat([p.grad.flatten() for p in trained]).norm().item()
            assert clipped == pytest.approx(0.01, rel=1e-3)
            frozen = {key for key, p in network.named_parameters() if p.grad is None}
            optimizer.step()
            optimizer.zero_grad()
            assert all(torch.equal(p, before[key]) == (key in frozen) for key, p in network.named_parameters())


class TestAverages:
    def test_timms_average_is_the_one_kept_by_hand_and_evaluates_as_the_plain_model(self):
        network = TINY["resnet"].build()
        by_hand = {key: value.clone() for key, value in network.state_dict().items()}
        schedule, optimizer = rdp.ResidualDropPath(network, 0.5), sgd(network)
        average = ModelEmaV3(network, decay=0.75, foreach=False)
        for step in range(6):
            steps_of(TINY["resnet"], schedule, optimizer, range(step, step + 1))
            average.update(network)
            for key, value in network.state_dict().items():
                if value.is_floating_point():
                    by_hand[key].lerp_(value, 0.25)
                else:
                    by_hand[key].copy_(value)
        plain = TINY["resnet"].build(seed=1)
        plain.load_state_dict(by_hand)
        assert same_weights(average.module, plain)
        x = TINY["resnet"].batch()[0]
        expected = plain.eval()(x)
        assert torch.equal(average.module.eval()(x), expected)
        with schedule.iteration(6):  # whatever the schedule does to the model meanwhile
            assert torch.equal(average.module(x), expected)

    def test_an_average_made_within_an_iteration_takes_part_in_full(self):
        network = VIT.build()
        schedule = rdp.ResidualDropPath(network, 0.5)
        with schedule.iteration(0):
            average = ModelEmaV3(network)
        x = VIT.batch()[0]
        assert torch.equal(average.module.eval()(x), VIT.build().eval()(x))
