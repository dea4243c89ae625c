"""Layers of every architecture and path, against networks walked by hand; and what is read of coders."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions
from rdp.models.paths import PnnhStack
from rdp.models.timm_plain import PlainSequence
from rdp.models.units import Units
from rdp.probes import Subject, available, probe_module
from rdp.probes.layers import branches_without_shortcut, layer_outputs, visit_layers
from rdp.probes.measures.coders import COLUMNS, measure
from tests.helpers.tiny import TINY, gaussian

PATHS = [("residual", {}), ("plain", {}), ("pnnh", {"variant": "concat"}), ("pnnh", {"variant": "sum"})]
every_path = pytest.mark.parametrize(("path", "options"), PATHS, ids=[" ".join([p, *o.values()]) for p, o in PATHS])


def walked(name: str, path: str, network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of all layers, block by block; those of attention and MLP where the block is a transformer's."""
    found = []

    def step(z: torch.Tensor) -> torch.Tensor:
        found.append(z.clone())
        return z

    def blocks(z: torch.Tensor, module: nn.Module) -> torch.Tensor:
        if isinstance(module, PnnhStack):
            codes = [coders() for coders in module.coders]
            for i, layer in enumerate(module.layers):
                z = step(layer(z, codes[i % len(codes)][i // len(codes)]))
            return z
        for block in module:
            z = blocks(z, block) if isinstance(block, PnnhStack) else step(block(z))
        return z

    with torch.no_grad():
        if name == "mlp8":
            blocks(network[1](x), network[2])
        elif name == "resnet20":
            z = network[0](x)
            for stage in network[1:4]:
                z = blocks(z, stage)
        elif name == "resnet18":
            z = network.maxpool(network.act1(network.bn1(network.conv1(x))))
            for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
                z = blocks(z, stage)
        elif path == "pnnh":
            blocks(network._pos_embed(network.patch_embed(x)), network.blocks)
        else:
            z = network._pos_embed(network.patch_embed(x))
            for block in network.blocks:
                z = step(block.attn(block.norm1(z)) + (z if path == "residual" else 0))
                z = step(block.mlp(block.norm2(z)) + (z if path == "residual" else 0))
    return found


@every_path
@pytest.mark.parametrize(
    ("name", "count", "pnnh"),
    [("mlp8", 8, 8), ("resnet20", 9, 18), ("resnet18", 8, 16), ("vit_micro", 12, 12)],
)
def test_are_those_of_the_network_walked_by_hand(name, count, pnnh, path, options, make_network, make_batch):
    network, (x, _) = make_network(name, path, norm_gain=0.7, **options), make_batch(name)
    expected = walked(name, path, copy.deepcopy(network).train(), x)
    found = layer_outputs(network, x, training=True)
    assert len(found) == len(expected) == (pnnh if path == "pnnh" else count)
    for layer, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(layer, reference, rtol=1e-5, atol=1e-5)
    evaluated = walked(name, path, copy.deepcopy(network).eval(), x)
    torch.testing.assert_close(layer_outputs(network, x)[-1], evaluated[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["sum_outer", "sum_inner"])
def test_are_those_of_layers_with_the_coder_in_front_of_the_rectifier(variant, make_network, make_batch):
    network, (x, _) = make_network("mlp8", "pnnh", variant=variant), make_batch("mlp8")
    found = layer_outputs(network, x, training=True)
    torch.testing.assert_close(found, walked("mlp8", "pnnh", network.train(), x))
    assert all((layer >= 0).all() for layer in found)


def test_of_bottlenecks_are_as_many_in_every_path(make_network, make_batch):
    x = make_batch("resnet50")[0]
    assert {len(layer_outputs(make_network("resnet50", path), x, training=True)) for path, _ in PATHS[:3]} == {16}


@pytest.mark.parametrize(
    ("name", "branches"),
    [("resnet", 1), ("bottleneck", 1), ("vit", 2), ("convnext", 1), ("efficientnet", 1), ("torchvision", 1)],
)
def test_of_other_peoples_blocks_end_in_the_blocks_output(name, branches):
    tiny = TINY[name]
    network, (x, _) = tiny.build(), tiny.batch()
    found, outputs = layer_outputs(network, x, training=True), []
    assert len(found) == len(tiny.units)
    copied = copy.deepcopy(network).train()
    for block in tiny.blocks(copied):
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
    with torch.no_grad():
        copied(x)
    torch.testing.assert_close(found[branches - 1 :: branches], outputs)


def test_are_kept_from_what_overwrites_them():
    linear = nn.Linear(4, 4)
    network = PlainSequence({"linear": linear, "relu": nn.ReLU(inplace=True)}, ("linear",), ())
    x = gaussian(8, 4)
    (found,) = layer_outputs(network, x)
    assert torch.equal(found, linear(x))
    assert (found < 0).any()


def test_are_visited_one_by_one_in_order(make_network, make_batch):
    network, (x, _) = make_network("vit_micro"), make_batch("vit_micro")
    seen = []
    visit_layers(network, x, lambda output: seen.append(output.clone()), training=True)
    assert all(map(torch.equal, seen, layer_outputs(network, x, training=True)))


@every_path
@pytest.mark.parametrize("name", ["resnet20", "resnet18", "vit_micro"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.slow
def test_keeps_the_network_unchanged(name, path, options, gated, make_network, make_batch):
    network, (x, _) = make_network(name, path, **options), make_batch(name)
    expected = layer_outputs(network, x, training=True)
    if gated:  # and dropped: a measurement is of the whole network
        for gate in [gate for gates in Units(network).gates for gate in gates]:
            gate.active = False
    kept = copy.deepcopy(network.state_dict())
    before = [(type(m), m.training, len(m._forward_hooks), getattr(m, "inplace", None)) for m in network.modules()]
    torch.testing.assert_close(layer_outputs(network, x, training=True), expected)
    after = [(type(m), m.training, len(m._forward_hooks), getattr(m, "inplace", None)) for m in network.modules()]
    assert after == before
    assert all(torch.equal(kept[key], value) for key, value in network.state_dict().items())


def test_are_none_of_a_network_without_any():
    assert layer_outputs(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)), gaussian(8, 2)) == []


@pytest.mark.parametrize(
    ("name", "path", "options", "ends"),
    [
        ("resnet18", "plain", {}, "bn2"),
        ("vit_micro", "plain", {}, ("ls1", "ls2")),
        ("resnet20", "plain", {}, "branch"),
        ("resnet18", "pnnh", {"variant": "concat"}, "activation"),
        ("resnet20", "pnnh", {"variant": "sum_inner"}, "activation"),
        ("resnet20", "pnnh", {"variant": "sum_outer"}, "norm"),
        ("vit_micro", "pnnh", {"variant": "sum"}, "activation"),
    ],
)
def test_branches_without_a_shortcut_end_where_a_sum_would_be(name, path, options, ends, make_network):
    network = make_network(name, path, **options)
    names = {id(module): name for name, module in network.named_modules()}
    found = [names[id(module)] for module in branches_without_shortcut(network)]
    assert found
    assert all(place.endswith(ends) for place in found)
    per_block = {("resnet18", "plain"): 8, ("resnet20", "plain"): 9, ("resnet18", "pnnh"): 13, ("resnet20", "pnnh"): 16}
    assert len(found) == per_block.get((name, path), 12)


def test_tools_are_no_probes():
    assert {"coders", "dissipating_inputs", "surviving_neurons"} <= set(available())
    assert not {"cka", "layers", "inputs"} & set(available())
    with pytest.raises(UserError, match="unknown probe 'layers'"):
        probe_module("layers")


def test_a_probe_says_how_many_examples_it_reads():
    assert probe_module("dissipating_inputs").EXAMPLES == 1024
    assert not hasattr(probe_module("feature_reuse"), "EXAMPLES")


class TestCoders:
    @staticmethod
    def rows(network: nn.Module) -> list[dict]:
        return measure(Subject(network, torch.zeros(0), torch.zeros(0)))

    @pytest.mark.parametrize(
        ("name", "sharing", "names", "layers"),
        [
            ("mlp8", "stage", ["2.coders.0.0"], [8]),
            ("mlp8", "pair", [f"2.coders.0.{i}" for i in range(4)], [2] * 4),
            ("resnet20", "stage", ["1.coders.0.0", "2.1.coders.0.0", "3.1.coders.0.0"], [6, 5, 5]),
            ("vit_micro", "stage", ["blocks.coders.0.0", "blocks.coders.1.0"], [6, 6]),
        ],
    )
    def test_start_at_the_identity(self, name, sharing, names, layers, make_network):
        rows = self.rows(make_network(name, "pnnh", variant="concat", sharing=sharing))
        assert [row["name"] for row in rows] == names
        assert [row["layers"] for row in rows] == layers
        for row in rows:
            assert tuple(row) == COLUMNS
            assert row["distance"] == pytest.approx(0, abs=1e-6)
            assert row["spectral"] == pytest.approx(1, abs=1e-6)
            assert row["orthogonality"] == pytest.approx(0, abs=1e-6)

    def test_of_a_rotation_by_hand(self, make_network):
        network = make_network("mlp8", "pnnh", variant="concat")
        with torch.no_grad():
            network[2].coders[0][0].skew[0, 1] = math.pi / 3  # turns the first two axes by 60 degrees
        (row,) = self.rows(network)
        # Each of two rows of 16 moved by a chord of 60 degrees, which is 1 long.
        assert row["distance"] == pytest.approx(math.sqrt(2 / 16), abs=1e-6)
        assert row["orthogonality"] == pytest.approx(0, abs=1e-6)

    def test_of_a_free_matrix_by_hand(self, make_network):
        network = make_network("mlp8", "pnnh", variant="sum", constraint="none")
        with torch.no_grad():
            network[2].coders[0][0].weight.copy_(torch.diag(F.pad(torch.tensor([3.0]), (0, 31), value=1.0)))
        (row,) = self.rows(network)
        assert row["rows"] == 32
        assert row["distance"] == pytest.approx(2 / math.sqrt(32), rel=1e-6)
        assert row["spectral"] == pytest.approx(3, rel=1e-6)
        assert row["orthogonality"] == pytest.approx(8 / math.sqrt(32), rel=1e-6)

    def test_of_a_kernel_by_hand(self, make_network):
        network = make_network("resnet20", "pnnh", variant="strict")
        with torch.no_grad():
            network[1].coders[0][0].weight[0, 0, 0, 0] = 3.0  # a corner of one kernel, beside 1 at its centre
        first, *others = self.rows(network)
        assert first["rows"] == 8
        assert first["distance"] == pytest.approx(3 / math.sqrt(8))
        assert first["spectral"] == pytest.approx(math.sqrt(10))
        assert first["orthogonality"] == pytest.approx(9 / math.sqrt(8))
        assert [row["distance"] for row in others] == [0, 0]

    def test_of_a_window_copy_other_channels(self, make_network):
        for row in self.rows(make_network("resnet20", "pnnh")):
            assert row["distance"] == pytest.approx(math.sqrt(2))
            assert row["orthogonality"] == 0

    def test_of_a_random_orthogonal_start_are_far_from_the_identity(self, make_network):
        (row,) = self.rows(make_network("mlp8", "pnnh", variant="sum", start="orthogonal"))
        assert row["distance"] == pytest.approx(math.sqrt(2), abs=0.2)
        assert row["orthogonality"] == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("path", ["residual", "plain"])
    def test_are_none_of_other_paths(self, path, make_network):
        assert self.rows(make_network("mlp8", path)) == []

    def test_keeps_the_network_unchanged(self, make_network):
        network = make_network("mlp8", "pnnh", **PnnhOptions(constraint="spectral").model_dump(mode="json"))
        kept = copy.deepcopy(network.state_dict())
        assert self.rows(network) == self.rows(network)
        assert all(torch.equal(kept[key], value) for key, value in network.state_dict().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
