"""A schedule's life around a model of anyone's: what it refuses, what it draws, and what it leaves behind."""

import contextlib
import copy

import numpy as np
import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch.nn import functional as F

import rdp
from rdp.errors import UserError
from rdp.methods import Training, method_class
from rdp.models.blocks import is_gated
from rdp.models.residual_drop_path import make_method
from tests.helpers.tiny import TINY, gradients, same

VIT = TINY["vit"]


def refuses(match: str):
    """A `UserError` of one line that matches."""
    return pytest.raises(UserError, match=rf"\A(?!.*\n)(?s:.*){match}")


def step_of(schedule: rdp.Schedule, step: int, tiny=VIT, **options) -> tuple:
    """Logits, gradients and the plan of one step on a model in a schedule."""
    with schedule.iteration(step, **options) as planned:
        logits, gradient = gradients(schedule.model, *tiny.batch(seed=step))
    schedule.model.zero_grad(set_to_none=True)
    return logits, gradient, planned


class TestMasks:
    def test_masks_depend_only_on_seed_and_step(self):
        first, later = rdp.ResidualDropPath(VIT.build(), 0.5, seed=3), rdp.ResidualDropPath(VIT.build(), 0.5, seed=3)
        found = {step: step_of(first, step) for step in range(10)}
        torch.manual_seed(99)
        np.random.seed(99)  # noqa: NPY002 (no mask may depend on it)
        for step in (7, 8, 9):  # a loop resumed at step 7
            logits, gradient, planned = step_of(later, step)
            assert torch.equal(logits, found[step][0])
            assert {k for k, g in gradient.items() if g is None} == {k for k, g in found[step][1].items() if g is None}
            assert planned.kind == found[step][2].kind == ("drop" if step % 2 == 0 else "recover")
            np.testing.assert_array_equal(planned.trained, found[step][2].trained)

    def test_another_seed_draws_others(self):
        plans = []
        for seed in (0, 1):
            with rdp.ResidualDropPath(VIT.build(), 0.5, seed=seed) as schedule:
                plans.append([step_of(schedule, 2 * pair)[2].active.tolist() for pair in range(10)])
        assert plans[0] != plans[1]

    def test_the_plan_is_the_methods(self):
        options = {"rate": 0.15, "schedule": "uniform", "scaling": "none", "redraw": False, "train_rest": True}
        schedule = rdp.ResidualDropPath(VIT.build(), **options, seed=5)
        method = method_class("residual_droppath")(**options)
        kinds = set()
        for step in range(20):
            planned = step_of(schedule, step)[2]
            expected = method.iteration(step, Training(6, batch_size=4, seed=5))
            kinds.add(planned.kind)
            assert (planned.kind, planned.rest_trained) == (expected.kind, expected.rest_trained)
            np.testing.assert_array_equal(planned.trained, expected.trained)
            assert planned.scale is None
        assert kinds == {"full", "drop", "recover"}

    def test_the_plan_is_that_of_a_run_of_as_many_steps(self):
        options = {"rate": 0.5, "hold": "epoch", "drop_from": 0.2, "drop_until": 0.7, "recover_lr_scale": 2.0}
        schedule = rdp.ResidualDropPath(VIT.build(), **options, steps=20, steps_per_epoch=6)
        schedule.attach(torch.optim.SGD(schedule.model.parameters()))
        method, training = method_class("residual_droppath")(**options), Training(6, 1, 0, 20, 6)
        kinds = []
        for step in range(20):
            planned, expected = step_of(schedule, step)[2], method.iteration(step, training)
            kinds.append(planned.kind)
            assert (planned.kind, planned.learning_rate_scale) == (expected.kind, expected.learning_rate_scale)
            np.testing.assert_array_equal(planned.trained, expected.trained)
        assert kinds == ["full"] * 4 + ["drop", "recover"] * 5 + ["full"] * 6

    def test_units_are_listed_by_name(self):
        assert tuple(rdp.ResidualDropPath(VIT.build(), 0.1).units) == VIT.units
        blocks = rdp.ResidualDropPath(VIT.build(), 0.1, granularity="block").units
        assert blocks == ["blocks.0", "blocks.1", "blocks.2"]

    @pytest.mark.parametrize("name", ["droppath", "droppath_batch", "random_freeze", "residual_droppath"])
    def test_every_dropping_method_has_its_schedule(self, name):
        schedule = rdp.Schedule(VIT.build(), make_method(name, rate=0.5))
        kinds = {step_of(schedule, step, batch_size=4)[2].kind for step in range(2)}
        assert kinds == {"random_freeze": {"freeze"}, "residual_droppath": {"drop", "recover"}}.get(name, {"drop"})


class TestBadInput:
    @pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), float("inf"), "much", None])
    def test_a_rate_outside_0_to_1_is_named(self, rate):
        with refuses(r"^residual_droppath\.rate: .*, found "):
            rdp.ResidualDropPath(VIT.build(), rate)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("schedule", "cubic"),
            ("scaling", 2),
            ("frozen_norm", "freeze"),
            ("granularity", "layer"),
            ("redraw", "maybe"),
            ("train_rest", 7),
            ("recover_lr_scale", 0),
            ("drop_from", 1),
            ("drop_until", "half"),
        ],
    )
    def test_a_wrong_option_is_named_with_what_is_valid(self, option, value):
        with refuses(rf"^residual_droppath\.{option}: input should be .*, found {value!r}"):
            rdp.ResidualDropPath(VIT.build(), 0.1, **{option: value})

    @pytest.mark.parametrize("hold", [0, "week", True])
    def test_a_wrong_hold_is_named_with_what_is_valid(self, hold):
        with refuses(rf"^residual_droppath\.hold: expected epoch or an integer .* equal to 1, found {hold!r}"):
            rdp.ResidualDropPath(VIT.build(), 0.1, hold=hold)

    @pytest.mark.parametrize(
        ("options", "missing"),
        [
            ({"drop_from": 0.5, "steps_per_epoch": 5}, "drop_from: needs .*; pass steps"),
            ({"drop_until": 0.5}, "drop_until: needs .*; pass steps"),
            ({"hold": "epoch", "steps": 10}, "hold: epoch: needs .*; pass steps_per_epoch"),
        ],
    )
    def test_an_option_that_needs_the_length_of_training_is_named_and_the_model_unchanged(self, options, missing):
        network = VIT.build()
        with refuses(f"^{missing}$"):
            rdp.ResidualDropPath(network, 0.1, **options)
        rdp.ResidualDropPath(network, 0.1).close()

    @pytest.mark.parametrize("name", ["steps", "steps_per_epoch"])
    @pytest.mark.parametrize("number", [0, -1, 1.5, True, "10"])
    def test_a_number_of_steps_is_a_positive_integer(self, name, number):
        with refuses(f"^{name}: expected an integer greater than or equal to 1, got"):
            rdp.ResidualDropPath(VIT.build(), 0.1, **{name: number})

    def test_a_misspelt_option_of_a_method_is_named_with_the_near_miss(self):
        with refuses(r"^residual_droppath\.scalling: unknown key; did you mean 'scaling'"):
            make_method("residual_droppath", scalling="keep")
        with refuses("^unknown method 'residual_drop_path'; did you mean 'residual_droppath'"):
            make_method("residual_drop_path")

    @pytest.mark.parametrize("seed", [-1, 0.5, True, "0", None])
    def test_a_seed_is_an_integer_from_0_on(self, seed):
        with refuses("^seed: expected an integer greater than or equal to 0, got"):
            rdp.ResidualDropPath(VIT.build(), 0.1, seed=seed)

    def test_a_model_without_units_is_refused_and_unchanged(self):
        network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        with refuses("Sequential: no residual branch to drop was found; its blocks: none.*register_block"):
            rdp.ResidualDropPath(network, 0.1)
        assert not network._forward_pre_hooks

    def test_a_model_with_active_droppath_is_refused_and_unchanged(self):
        network = VIT.build(drop_path_rate=0.2)
        kinds = [type(m) for m in network.modules()]
        with refuses(r"^blocks\.1\.drop_path1: the model's own droppath is active.*take_over=True"):
            rdp.ResidualDropPath(network, 0.1)
        assert [type(m) for m in network.modules()] == kinds

    @pytest.mark.parametrize("step", [-1, True, 1.0, "1", None])
    def test_a_step_is_an_integer_from_0_on(self, step):
        with (
            refuses("expected a step of 0 or more, an integer, got"),
            rdp.ResidualDropPath(VIT.build(), 0.1).iteration(step),
        ):
            pass

    def test_a_step_that_goes_backwards_is_refused_and_the_same_step_again_is_not(self):
        schedule = rdp.ResidualDropPath(VIT.build(), 0.5)
        for step in (3, 3, 5):
            step_of(schedule, step)
        with refuses(r"iteration\(4\): steps cannot go back, and the last one was 5"):
            step_of(schedule, 4)
        step_of(schedule, 6)

    def test_a_context_inside_another_is_refused_and_the_outer_one_goes_on(self):
        schedule = rdp.ResidualDropPath(VIT.build(), 0.5)
        expected = step_of(rdp.ResidualDropPath(VIT.build(), 0.5), 1)
        with schedule.iteration(1):
            with refuses(r"iteration\(2\): the iteration of step 1 has not ended"), schedule.iteration(2):
                pass
            with refuses("inside an iteration"):
                schedule.close()
            assert torch.equal(gradients(schedule.model, *VIT.batch(seed=1))[0], expected[0])

    def test_a_closed_schedule_is_refused(self):
        schedule = rdp.ResidualDropPath(VIT.build(), 0.5)
        schedule.close()
        schedule.close()  # needless, and allowed
        with refuses("the schedule was closed"):
            step_of(schedule, 0)

    @pytest.mark.parametrize("zeroed", [False, True], ids=["kept", "set to zero"])
    def test_gradients_left_in_what_a_step_freezes_are_refused(self, zeroed):
        schedule = rdp.ResidualDropPath(VIT.build(), 0.5)
        optimizer = torch.optim.SGD(schedule.model.parameters(), lr=0.1, momentum=0.9)
        with schedule.iteration(0):
            gradients(schedule.model, *VIT.batch())
        optimizer.step()
        if zeroed:
            optimizer.zero_grad(set_to_none=False)
        with refuses(r"iteration\(1\): .*hold gradients.*zero_grad\(set_to_none=True\)"), schedule.iteration(1):
            F.cross_entropy(schedule.model(VIT.batch()[0]), VIT.batch()[1]).backward()
            with refuses("hold gradients"):
                schedule.check_gradients()
        assert all(p.requires_grad for p in schedule.model.parameters())
        optimizer.zero_grad(set_to_none=True)
        step_of(schedule, 1)

    def test_microbatches_counted_as_steps_are_refused(self):
        schedule = rdp.ResidualDropPath(VIT.build(), 0.5)
        for step, check in ((0, contextlib.nullcontext()), (1, refuses(r"iteration\(1\): .*hold gradients"))):
            with check, schedule.iteration(step):
                F.cross_entropy(schedule.model(VIT.batch()[0]), VIT.batch()[1]).backward()

    def test_an_error_in_an_iteration_is_not_hidden_by_gradients_that_were_left(self):
        schedule = rdp.ResidualDropPath(VIT.build(), 0.5)
        with schedule.iteration(0):
            gradients(schedule.model, *VIT.batch())
        with pytest.raises(ZeroDivisionError), schedule.iteration(1):
            raise ZeroDivisionError

    def test_droppath_asks_for_the_number_of_examples(self):
        schedule = rdp.Schedule(VIT.build(), make_method("droppath", rate=0.5))
        with refuses("pass batch_size"):
            step_of(schedule, 0)
        assert step_of(schedule, 0, batch_size=4)[2].active.shape == (6, 4)

    @pytest.mark.parametrize(("told", "examples"), [(8, 3), (8, 1), (1, 8), (3, 8)])
    @pytest.mark.parametrize("name", ["vit", "swin", "convnext", "torchvision"])
    def test_another_number_of_examples_than_the_batch_size_is_named(self, name, told, examples):
        """A last mini-batch that is smaller; one example would become as many as the mask has."""
        schedule = rdp.Schedule(TINY[name].build(), make_method("droppath", rate=0.5))
        with (
            refuses(rf"batch_size={told}, but a residual branch returns {examples} examples; pass batch_size=len"),
            schedule.iteration(0, batch_size=told),
        ):
            schedule.model(TINY[name].batch(examples)[0])


class TestCallsOutsideAContext:
    def test_in_training_mode_they_are_refused(self):
        schedule = rdp.ResidualDropPath(VIT.build(), 0.5)
        with refuses(r"^VisionTransformer: called in training mode outside `with schedule\.iteration\(step\)`"):
            schedule.model(VIT.batch()[0])

    def test_evaluation_computes_the_whole_model_between_any_two_steps(self):
        original, schedule = VIT.build().eval(), rdp.ResidualDropPath(VIT.build(), 0.5)
        x = VIT.batch()[0]
        for step in range(4):
            step_of(schedule, step)
            schedule.model.eval()
            assert torch.equal(schedule.model(x), original(x))
            schedule.model.train()

    @pytest.mark.parametrize("norm", ["update", "batch", "eval"])
    @pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
    def test_a_mode_that_is_set_within_an_iteration_stays(self, norm, training):
        network = TINY["resnet"].build().train(not training)
        schedule = rdp.ResidualDropPath(network, 0.5, frozen_norm=norm)
        with schedule.iteration(1):
            network.train(training)
        assert {module.training for module in network.modules()} == {training}

    def test_an_error_in_a_context_ends_it(self):
        schedule, original = rdp.ResidualDropPath(VIT.build(), 0.5), VIT.build().eval()
        with pytest.raises(ZeroDivisionError), schedule.iteration(0):
            raise ZeroDivisionError
        assert torch.equal(schedule.model.eval()(VIT.batch()[0]), original(VIT.batch()[0]))
        schedule.model.train()
        step_of(schedule, 0)

    def test_a_copy_of_the_model_belongs_to_no_schedule(self):
        schedule, original = rdp.ResidualDropPath(VIT.build(), 0.5), VIT.build()
        copied = copy.deepcopy(schedule.model)
        expected, gradient = gradients(original, *VIT.batch())
        outside = gradients(copied, *VIT.batch())
        with schedule.iteration(0):
            inside = gradients(copied, *VIT.batch())
        for logits, found in (outside, inside):
            assert torch.equal(logits, expected)
            assert same(found, gradient)
        copied.zero_grad(set_to_none=True)
        with rdp.ResidualDropPath(copied, 0.5) as second:
            step_of(second, 0)


class TestTwoSchedules:
    def test_a_model_has_one_at_a_time(self):
        network = VIT.build()
        first = rdp.ResidualDropPath(network, 0.5)
        with refuses("VisionTransformer: it has a schedule already; close that one first"):
            rdp.ResidualDropPath(network, 0.5)
        step_of(first, 0)
        first.close()
        with rdp.ResidualDropPath(network, 0.5) as second:
            step_of(second, 0)

    def test_one_on_a_part_keeps_the_whole_from_having_another_and_nothing_is_left_behind(self):
        network = VIT.build()
        first = rdp.ResidualDropPath(network.blocks[1], 0.5)
        with refuses("it has a schedule already"):
            rdp.ResidualDropPath(network, 0.5)
        assert [is_gated(block) for block in network.blocks] == [False, True, False]
        first.close()


@pytest.mark.parametrize("name", ["resnet", "vit", "convnext", "swin"])
class TestClose:
    def photograph(self, network: nn.Module) -> list:
        found = []
        for name, module in network.named_modules():
            plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | None)}
            hooks = [len(v) for k, v in vars(module).items() if k.endswith("hooks")]
            found.append((name, type(module), list(vars(module)), list(module._modules), plain, hooks))
        return found

    @pytest.mark.parametrize("frozen_norm", ["update", "batch", "eval"])
    def test_it_leaves_the_model_as_it_was_found(self, name, frozen_norm):
        tiny = TINY[name]
        network = tiny.build(drop_path_rate=0.3)
        before = self.photograph(network)
        with rdp.ResidualDropPath(network, 0.5, frozen_norm=frozen_norm, take_over=True) as schedule:
            for step in range(4):
                step_of(schedule, step, tiny)
            assert self.photograph(network) != before
        assert self.photograph(network) == before
        assert all(p.requires_grad for p in network.parameters())
        assert max(m.drop_prob for m in network.modules() if isinstance(m, DropPath)) > 0.25

    @pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
    def test_state_dict_and_forward_are_those_of_the_model(self, name, training):
        tiny = TINY[name]
        network, original = tiny.build(), tiny.build()
        with rdp.ResidualDropPath(network, 0.5) as schedule, schedule.iteration(0):
            pass
        assert same(network.state_dict(), original.state_dict())
        network.train(training)
        original.train(training)
        assert torch.equal(network(tiny.batch()[0]), original(tiny.batch()[0]))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
class TestScripting:
    @pytest.mark.parametrize("name", ["resnet", "vit", "convnext", "torchvision"])
    def test_a_model_with_a_schedule_is_refused_and_can_be_scripted_after_it(self, name):
        network = TINY[name].build()
        schedule = rdp.ResidualDropPath(network, 0.5)
        with refuses(r"^torch\.jit\.script: a model with a schedule, .* cannot be scripted; .*schedule\.close"):
            torch.jit.script(network)
        step_of(schedule, 0, TINY[name])
        schedule.close()
        x = TINY[name].batch()[0]
        assert torch.equal(torch.jit.script(network.eval())(x), network(x))

    def test_a_network_of_this_project_is_refused_too(self, make_network):
        network = make_network("resnet20")
        rdp.ResidualDropPath(network, 0.5)
        with refuses(r"^torch\.jit\.script: a model with a schedule"):
            torch.jit.script(network)

    def test_a_scripted_model_gets_no_schedule(self):
        with refuses("^RecursiveScriptModule: a scripted model cannot be changed; .*--torchscript"):
            rdp.ResidualDropPath(torch.jit.script(VIT.build()), 0.5)
