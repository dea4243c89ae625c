"""What iterations compute in other people's models, against the same models with branches cut out by hand."""

import copy

import numpy as np
import pytest
import torch
from timm.layers import DropPath
from torch import nn

from rdp.methods import FULL, Iteration
from rdp.models.units import Units
from tests.helpers.tiny import TIMM, TINY, gradients, set_factors

EXACTLY = {"rtol": 0, "atol": 0}
every_model = pytest.mark.parametrize("name", TINY)
pytestmark = pytest.mark.usefixtures("user_block")


def masks(units: int) -> list[np.ndarray]:
    """What is dropped: every unit alone, every second one, and all."""
    odd = np.arange(units) % 2 == 1
    return [*np.eye(units, dtype=bool), odd, ~odd, np.ones(units, dtype=bool)]


def assert_same(found: dict, expected: dict, present: set[str], **close: float) -> None:
    """The gradients of ``present`` agree, bit for bit unless ``close`` says how closely; the others are absent."""
    assert present
    for key, gradient in found.items():
        if key in present:
            torch.testing.assert_close(
                gradient, expected[key], **(close or EXACTLY), msg=lambda m, key=key: f"{key}: {m}"
            )
        else:
            assert gradient is None, key


@every_model
class TestDropIteration:
    @pytest.mark.parametrize("scaled", [False, True], ids=["unscaled", "scaled"])
    def test_it_is_the_model_with_those_branches_cut_out_bit_for_bit(self, name, scaled):
        tiny = TINY[name]
        network, batch = tiny.build(), tiny.batch()
        reference = tiny.by_hand(network)
        units = Units(network)
        # Powers of two: scaling by them rounds nothing, in whatever order.
        scale = np.resize(np.float32([2, 1, 4]), len(units)) if scaled else np.ones(len(units), np.float32)
        for dropped in masks(len(units)):
            set_factors(reference, np.where(dropped, 0, scale).tolist())
            units.apply(Iteration("drop", active=~dropped, scale=scale if scaled else None, trained=~dropped))
            (logits, found), (expected, gradient) = gradients(network, *batch), gradients(reference, *batch)
            assert torch.equal(logits, expected)
            out = {tiny.units[i] for i in np.flatnonzero(dropped)}
            assert_same(found, gradient, {key for key in found if tiny.owner(key) not in out})

    def test_running_statistics_of_dropped_branches_stay_and_all_others_move(self, name):
        tiny = TINY[name]
        network, reference = tiny.build(), tiny.by_hand(tiny.build())
        units, dropped = Units(network), masks(len(tiny.units))[-2]
        set_factors(reference, np.where(dropped, 0.0, 1.0).tolist())
        units.apply(Iteration("drop", active=~dropped))
        for model in (network, reference):
            model(tiny.batch()[0])
        for (key, buffer), other in zip(network.named_buffers(), reference.buffers(), strict=True):
            assert torch.equal(buffer, other), key

    def test_one_iteration_leaves_nothing_to_the_next(self, name):
        tiny = TINY[name]
        network, batch = tiny.build().eval(), tiny.batch()
        expected, gradient = gradients(copy.deepcopy(network), *batch)
        units = Units(network)
        for dropped in masks(len(units)):
            for iteration in (
                Iteration("drop", active=~dropped, scale=np.full(len(units), 3.0), trained=~dropped),
                Iteration("drop", active=np.tile(~dropped[:, None], 4)),
                Iteration("recover", trained=dropped, rest_trained=False),
            ):
                units.apply(iteration)
                gradients(network, *batch)
        units.apply(FULL)
        logits, found = gradients(network, *batch)
        assert torch.equal(logits, expected)
        assert_same(found, gradient, set(found))


@every_model
def test_gradients_of_a_recover_iteration_are_the_full_models_restricted_to_the_dropped_units(name):
    tiny = TINY[name]
    network, batch = tiny.build(), tiny.batch()
    # Of the mixer's transposed products torch folds those whose input wants a gradient, and others not.
    close = {"rtol": 1e-4, "atol": 1e-5} if name == "mixer" else EXACTLY
    expected, gradient = gradients(copy.deepcopy(network), *batch)
    units = Units(network)
    for dropped in masks(len(units)):
        for rest_trained in (False, True):
            units.apply(Iteration("recover", trained=dropped, rest_trained=rest_trained))
            logits, found = gradients(network, *batch)
            torch.testing.assert_close(logits, expected, **close)
            trained = {tiny.units[i] for i in np.flatnonzero(dropped)} | ({None} if rest_trained else set())
            assert_same(found, gradient, {key for key in found if tiny.owner(key) in trained}, **close)


class Given(nn.Module):
    """A droppath module whose factor for each example is given."""

    def __init__(self, factor: torch.Tensor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor.to(x.dtype).view(-1, *[1] * (x.dim() - 1))  # as timm's, which draws it in x's type


@pytest.mark.parametrize("name", TIMM)
class TestDroppathForEachExample:
    @pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
    def test_it_is_the_models_own_droppath_with_the_same_masks_bit_for_bit(self, name, precision):
        tiny = TINY[name]
        network, batch = tiny.build(), tiny.batch(8)
        rates = np.linspace(0, 0.7, len(tiny.units))
        kept = np.random.default_rng(0).random((len(rates), 8)) >= rates[:, None]
        scale = (1 / (1 - rates)).astype(np.float32)
        assert 0 < kept.mean() < 1
        reference = copy.deepcopy(network)
        for unit, factor in zip(tiny.units, torch.from_numpy(kept * scale[:, None]), strict=True):
            block, end = unit.rsplit(".", 1) if ".drop_path" in unit else (unit, "drop_path")
            setattr(reference.get_submodule(block), end, Given(factor))
        units = Units(network)
        units.apply(Iteration("drop", active=kept, scale=scale))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            (logits, found), (expected, gradient) = gradients(network, *batch), gradients(reference, *batch)
        assert logits.dtype is precision
        assert torch.equal(logits, expected)
        assert_same(found, gradient, set(gradient))

    def test_it_is_timms_droppath_drawing_those_masks_bit_for_bit(self, name):
        tiny = TINY[name]
        own, (x, y) = tiny.build(drop_path_rate=0.6), tiny.batch(8)
        network = tiny.build()
        network.load_state_dict(own.state_dict())
        units = Units(network)
        scale, kept = np.ones(len(units), np.float32), np.ones((len(units), 8), dtype=bool)
        torch.manual_seed(7)  # and then as timm's drop_path draws, branch by branch
        for i, unit in enumerate(tiny.units):
            block, end = unit.rsplit(".", 1) if ".drop_path" in unit else (unit, "drop_path")
            drop = getattr(own.get_submodule(block), end)
            if not isinstance(drop, DropPath):
                continue  # the rate is 0 there
            keep = 1 - drop.drop_prob
            kept[i] = torch.empty(8).bernoulli_(keep).bool().numpy()
            scale[i] = torch.ones(1).div_(keep).item()
        assert 0 < kept.mean() < 1
        assert scale.max() > 1.3
        units.apply(Iteration("drop", active=kept, scale=scale))
        torch.manual_seed(7)
        expected, gradient = gradients(own, x, y)
        logits, found = gradients(network, x, y)
        assert torch.equal(logits, expected)
        assert_same(found, gradient, set(gradient))
