"""The axis of channels: that of the layer that writes a tensor, in other people's models too."""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import rdp
from rdp.probes.channels import channel_axes
from rdp.probes.cka import minibatch_cka
from rdp.probes.measures.feature_reuse import branch_outputs
from tests.helpers.tiny import TINY, gaussian


def outputs_of(kind: str) -> Callable:
    """Attach to the outputs of all modules of a class."""

    def attach(network, see):
        for module in network.modules():
            if type(module).__name__ == kind:
                module.register_forward_hook(lambda module, inputs, output: see(output))

    return attach


def inputs_of(kind: str) -> Callable:
    """Attach to the inputs of all modules of a class."""

    def attach(network, see):
        for module in network.modules():
            if type(module).__name__ == kind:
                module.register_forward_pre_hook(lambda module, inputs: see(inputs[0]))

    return attach


class Permute(nn.Module):
    def __init__(self, *order: int, contiguous: bool = False) -> None:
        super().__init__()
        self.order, self.contiguous = order, contiguous

    def forward(self, x):
        x = x.permute(self.order)
        return x.contiguous() if self.contiguous else x


# Every side of an input and output is 6: sizes tell nothing.
LAYERS = {
    "1-d convolution": (lambda: nn.Conv1d(6, 6, 3, padding=1), 3, 1),
    "1-d convolution without bias": (lambda: nn.Conv1d(6, 6, 3, padding=1, bias=False), 3, 1),
    "depthwise 1-d convolution": (lambda: nn.Conv1d(6, 6, 3, padding=1, groups=6), 3, 1),
    "1-d batch norm": (lambda: nn.BatchNorm1d(6), 3, 1),
    "1-d group norm": (lambda: nn.GroupNorm(2, 6), 3, 1),
    "tokens": (lambda: nn.Linear(6, 6), 3, 2),
    "layer norm": (lambda: nn.LayerNorm(6), 3, 2),
    "mixed tokens": (lambda: nn.Sequential(Permute(0, 2, 1), nn.Linear(6, 6), Permute(0, 2, 1)), 3, 1),
    "2-d convolution": (lambda: nn.Conv2d(6, 6, 3, padding=1), 4, 1),
    "2-d transposed convolution": (lambda: nn.ConvTranspose2d(6, 6, 3, padding=1), 4, 1),
    "2-d norm over positions": (lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.InstanceNorm2d(6)), 4, 1),
    "channels last": (lambda: nn.Linear(6, 6, bias=False), 4, 3),
    "layer norm of timm's for images": (lambda: timm.layers.LayerNorm2d(6), 4, 1),
    "back to channels first": (lambda: nn.Sequential(nn.Linear(6, 6), Permute(0, 3, 1, 2)), 4, 1),
    "back, contiguous": (lambda: nn.Sequential(nn.Linear(6, 6), Permute(0, 3, 1, 2, contiguous=True)), 4, 1),
    "to channels last": (lambda: nn.Sequential(nn.Conv2d(6, 6, 1), Permute(0, 2, 3, 1)), 4, 3),
    "3-d convolution": (lambda: nn.Conv3d(6, 6, 3, padding=1), 5, 1),
    "points": (lambda: nn.Linear(6, 6), 2, 1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_it_follows_from_the_layer(name):
    make, dimensions, axis = LAYERS[name]
    torch.manual_seed(0)
    network = nn.Sequential(make(), nn.ReLU())
    x = gaussian(4, *[6] * (dimensions - 1))
    assert channel_axes(network, x, inputs_of("ReLU")) == [axis]


def test_after_an_embedding_it_is_the_last_axis_also_if_all_examples_begin_with_one_token():
    x = torch.arange(24).reshape(4, 6)
    x[:, 0] = 1
    assert channel_axes(nn.Sequential(nn.Embedding(24, 6), nn.ReLU()), x, inputs_of("ReLU")) == [2]
    network = nn.Sequential(nn.Embedding(24, 6), Permute(0, 2, 1), nn.ReLU())
    assert channel_axes(network, x, inputs_of("ReLU")) == [1]


@pytest.mark.parametrize(("dimensions", "axis"), [(2, 1), (3, 2), (4, 1)])
def test_without_a_layer_it_is_that_of_points_tokens_or_images(dimensions, axis):
    assert channel_axes(nn.Sequential(nn.ReLU()), gaussian(4, *[6] * (dimensions - 1)), inputs_of("ReLU")) == [axis]


@pytest.mark.parametrize(
    ("make", "side", "attach", "axes"),
    [
        (TINY["convnext"].build, 32, inputs_of("GELU"), {3}),
        (TINY["convnext"].build, 32, outputs_of("ConvNeXtBlock"), {1}),
        (TINY["swin"].build, 32, inputs_of("GELU"), {2}),
        (TINY["swin"].build, 32, outputs_of("WindowAttention"), {2}),
        (TINY["swin"].build, 32, outputs_of("SwinTransformerBlock"), {3}),
        (TINY["vit"].build, 16, inputs_of("GELU"), {2}),
        (TINY["efficientnet"].build, 32, inputs_of("ReLU"), {1}),
        (TINY["mixer"].build, 16, outputs_of("MixerBlock"), {2}),
        (lambda: torchvision.models.convnext_tiny(num_classes=5), 32, inputs_of("GELU"), {3}),
        (lambda: torchvision.models.swin_t(num_classes=5), 32, inputs_of("GELU"), {3}),
        (lambda: torchvision.models.VisionTransformer(16, 4, 2, 2, 8, 16), 16, inputs_of("Dropout"), {2}),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_in_other_peoples_models(make, side, attach, axes, frozen):
    torch.manual_seed(0)
    network = make().requires_grad_(not frozen)
    assert {*channel_axes(network, gaussian(4, 3, side, side), attach)} == axes


def test_checkpointing_and_the_network_are_left_alone():
    network = TINY["vit"].build()
    network.set_grad_checkpointing()
    expected = copy.deepcopy(network.state_dict())
    assert channel_axes(network, TINY["vit"].batch()[0], inputs_of("GELU")) == [2, 2, 2]
    assert network.grad_checkpointing
    assert all(torch.equal(expected[key], value) for key, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


class TestSurvivingNeurons:
    @pytest.mark.parametrize("bias", [True, False])
    def test_dead_channels_of_a_1d_convolution_are_counted_as_channels(self, bias):
        """2 of 5 channels are never above 0, at each of 7 positions."""
        network = nn.Sequential(nn.Conv1d(3, 5, 1, bias=bias), nn.ReLU())
        with torch.no_grad():
            network[0].weight.copy_(torch.tensor([1.0, 1, 1, -1, -1])[:, None, None].expand(5, 3, 1))
            if bias:
                network[0].bias.zero_()
        row = rdp.probe("surviving_neurons", network, gaussian(8, 3, 7).abs())[0]
        assert (row["dead"], row["positive"]) == (0.4, 0.6)

    @pytest.mark.parametrize("name", ["convnext", "swin"])
    def test_dead_channels_of_a_channels_last_mlp_are_counted_as_channels(self, name):
        network = TINY[name].build()
        mlp = next(module for module in network.modules() if isinstance(module, timm.layers.Mlp))
        with torch.no_grad():
            mlp.fc1.weight[:8] = 0
            mlp.fc1.bias[:8] = -1
        rows = rdp.probe("surviving_neurons", network, TINY[name].batch()[0])
        assert rows[0]["dead"] == 8 / len(mlp.fc1.bias)


class TestFeatureReuse:
    @pytest.mark.parametrize("name", ["swin", "convnext"])
    def test_images_are_pooled_over_positions_in_every_layout(self, name):
        """By hand: hooks on the layers that end the branches, moved to channels first and pooled to the last stage."""
        tiny = TINY[name]
        network, x = tiny.build(), tiny.batch(8)[0]
        found = branch_outputs(network, x)
        rows = rdp.probe("feature_reuse", network, x)
        for branch, unit in zip(found, tiny.units, strict=True):
            if branch.output.dim() == 4:
                assert branch.channel_axis == (3 if name == "swin" else 1), unit
        moved = [z.movedim(-1, 1) if name == "swin" and z.dim() == 4 else z for z in (b.output for b in found)]
        side = min(z.shape[-1] for z in moved if z.dim() == 4)
        features = [F.adaptive_avg_pool2d(z, side) if z.dim() == 4 else z for z in moved]
        cka = minibatch_cka([z.flatten(1) for z in features], [z.flatten(1) for z in features])
        for row in rows:
            if row["quantity"] == "cka":
                assert row["value"] == pytest.approx(cka[row["layer"] - 1, row["other"] - 1], abs=1e-6)

    def test_a_branch_is_the_same_in_both_layouts(self):
        """One network of images twice, the second with its layers' outputs permuted: all numbers are equal."""
        torch.manual_seed(0)
        first, second, last = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 8, 3), Permute(0, 2, 3, 1)
        network = nn.Sequential(first, nn.ReLU(), second)
        x = gaussian(8, 3, 16, 16)
        expected = rdp.probe("feature_reuse", network, x, layers=["0", "2"])
        permuted = nn.Sequential(first, nn.ReLU(), nn.Sequential(second, last))
        found = rdp.probe("feature_reuse", permuted, x, layers=["0", "2"])
        assert [row["value"] for row in found] == pytest.approx([row["value"] for row in expected], nan_ok=True)
