"""A model that its user goes on changing while a schedule controls it: each change is followed, or refused by name."""

import copy
import pickle

import numpy as np
import peft
import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

import rdp
from rdp.errors import UserError
from rdp.methods import Iteration, Method


class Fixed(Method):
    """Computes all units, and trains those of a mask."""

    trained: tuple[bool, ...]
    rest: bool = False

    def iteration(self, step, training):
        return Iteration("fixed", trained=np.array(self.trained), rest_trained=self.rest)


def vit(**options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", img_size=32, num_classes=4, depth=3, **options)


def only(*chosen: int, rest: bool = False, units: int = 6) -> Fixed:
    return Fixed(trained=tuple(i in chosen for i in range(units)), rest=rest)


def step(model: nn.Module, schedule: rdp.Schedule, number: int = 0, **options) -> set[str]:
    """Run one iteration, and return the names of the parameters that have a gradient."""
    model.zero_grad(set_to_none=True)
    with schedule.iteration(number):
        model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    return {name for name, p in model.named_parameters() if p.grad is not None}


def trained_names(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


class TestFreezingByTheUser:
    def test_what_is_frozen_after_the_schedule_was_made_stays_frozen(self):
        model = vit()
        with rdp.Schedule(model, only(0, 1, 2, 3, 4, 5, rest=True)) as schedule:
            for parameter in model.blocks[1].parameters():
                parameter.requires_grad = False
            before = trained_names(model)
            assert step(model, schedule) == before
            assert trained_names(model) == before
            assert not any(name.startswith("blocks.1.") for name in before)
        assert trained_names(model) == before

    def test_what_is_thawed_after_the_schedule_was_made_is_frozen_by_iterations_only(self):
        model = vit().requires_grad_(False)
        model.head.requires_grad_(True)
        with rdp.Schedule(model, only(0)) as schedule:
            model.requires_grad_(True)
            found = step(model, schedule)
            assert found == {n for n in trained_names(model) if n.startswith(("blocks.0.norm1", "blocks.0.attn"))}
            assert trained_names(model) == {name for name, _ in model.named_parameters()}

    def test_a_step_moves_nothing_that_the_user_froze(self):
        model = vit()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        schedule = rdp.ResidualDropPath(model, rate=0.9)
        model.blocks[2].requires_grad_(False)
        before = copy.deepcopy(model.blocks[2].state_dict())
        for number in range(4):
            step(model, schedule, number)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert all(torch.equal(value, before[name]) for name, value in model.blocks[2].state_dict().items())
        schedule.close()


class TestNewLayers:
    def test_a_new_head_belongs_to_the_rest(self):
        model = vit()
        schedule = rdp.Schedule(model, only(1))
        model.reset_classifier(5)
        found = step(model, schedule)
        assert found
        assert all(name.startswith(("blocks.0.norm2", "blocks.0.mlp")) for name in found)
        schedule.close()
        assert model.head.weight.requires_grad

    def test_adapters_belong_to_the_unit_of_their_branch(self):
        model = vit()
        schedule = rdp.Schedule(model, only(2))
        config = peft.LoraConfig(target_modules=["qkv", "fc1"], r=2)
        adapted = peft.get_peft_model(model, config)
        found = step(adapted, schedule)
        assert found
        assert all(".blocks.1.attn.qkv.lora_" in name for name in found)
        assert all(".lora_" in name for name in trained_names(adapted))

    def test_weights_that_were_assigned_are_frozen_like_those_before(self):
        model = vit()
        schedule = rdp.Schedule(model, only(1))
        model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
        found = step(model, schedule)
        assert found
        assert all(name.startswith(("blocks.0.norm2", "blocks.0.mlp")) for name in found)

    def test_a_block_that_was_replaced_is_refused_by_name(self):
        model = vit()
        schedule = rdp.Schedule(model, only(1))
        model.blocks[1] = vit().blocks[1]
        with pytest.raises(UserError, match=r"^blocks\.1: this block was replaced .*; close the schedule, and make it"):
            step(model, schedule)
        schedule.close()

    def test_a_block_that_was_added_is_refused_by_name(self):
        model = vit()
        schedule = rdp.Schedule(model, only(1))
        model.blocks.append(vit().blocks[1])
        with pytest.raises(UserError, match=r"^blocks\.3: this block was added while a schedule is active"):
            step(model, schedule)

    def test_droppath_that_was_added_is_refused_by_name(self):
        model = vit()
        schedule = rdp.Schedule(model, only(1))
        model.blocks[2].drop_path1 = DropPath(0.2)
        with pytest.raises(UserError, match=r"^blocks\.2\.drop_path1: the model's own droppath is active"):
            step(model, schedule)


class TestCopies:
    def test_a_copy_is_a_plain_model_that_can_be_pickled(self):
        model = vit(drop_path_rate=0.4)
        kinds = [type(module) for module in model.modules()]
        with rdp.ResidualDropPath(model, rate=0.5, take_over=True):
            average = copy.deepcopy(model)
            written = pickle.dumps(model)
        for other in (average, pickle.loads(written), pickle.loads(pickle.dumps(average))):
            assert [type(module) for module in other.modules()] == kinds
            assert other.blocks[2].drop_path2.drop_prob == pytest.approx(0.4)
            x = torch.randn(8, 3, 32, 32)
            assert not torch.equal(other.train()(x), other(x))  # its droppath is active
            assert torch.equal(other.eval()(x), model.eval()(x))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.linear(x).tanh()


class TestFrozenByTheUser:
    def test_a_step_that_would_train_frozen_parameters_only_is_a_full_step(self):
        model = nn.Sequential(*[Residual() for _ in range(4)], nn.Linear(8, 3))
        for block in model[:3]:
            block.requires_grad_(False)
        schedule = rdp.ResidualDropPath(model, rate=0.3, schedule="uniform", seed=0)
        full = 0
        for step in range(60):
            with schedule.iteration(step) as iteration:
                model(torch.randn(2, 8)).sum().backward()
            full += iteration.trained is None and step % 2
            assert all((p.grad is None) for block in model[:3] for p in block.parameters())
            model.zero_grad(set_to_none=True)
        assert 0 < full < 30


class TestEvaluationInsideAnIteration:
    def test_every_branch_is_computed(self):
        model = nn.Sequential(*[Residual() for _ in range(4)], nn.Linear(8, 3))
        x = torch.randn(2, 8)
        expected = model(x)
        schedule = rdp.ResidualDropPath(model, rate=0.5, schedule="uniform", seed=0)
        with schedule.iteration(0):
            dropped = model(x)
            assert torch.equal(model.eval()(x), expected)
            assert torch.equal(model.train()(x), dropped)
        assert not torch.equal(dropped, expected)
