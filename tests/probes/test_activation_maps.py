"""Activation maps: what is mapped, where, and with which statistics."""

import copy

import pytest
import torch
from torch import nn

from rdp.models.gates import PlainBranch
from rdp.probes import Subject, available, probe_module
from rdp.probes.layers import layer_outputs
from rdp.probes.measures.activation_maps import GRID, grid, measure, with_statistics_of

PATHS = [("residual", {}), ("plain", {}), ("pnnh", {"variant": "concat"}), ("pnnh", {"variant": "sum"})]
every_path = pytest.mark.parametrize(("path", "options"), PATHS, ids=[" ".join([p, *o.values()]) for p, o in PATHS])


def subject(network: nn.Module, size: int = 64, width: int = 2) -> Subject:
    x = torch.randn(size, width, generator=torch.Generator().manual_seed(3))
    return Subject(network, x, torch.zeros(size, dtype=torch.long))


def maps(rows: list[dict], layer: int) -> torch.Tensor:
    """The maps of a layer, shape (GRID * GRID, neurons)."""
    return torch.tensor([row["map"] for row in rows if row["layer"] == layer]).T


def test_is_a_probe_by_name():
    assert "activation_maps" in available()
    assert probe_module("activation_maps").measure is measure


@every_path
def test_has_a_map_for_each_neuron_of_each_layer(path, options, make_network):
    measured = subject(make_network("mlp8", path, **options))
    rows = measure(measured)
    assert [(row["layer"], row["neuron"]) for row in rows] == [(i, j) for i in range(1, 9) for j in range(1, 33)]
    assert {tuple(row) for row in rows} == {("layer", "neuron", "map", "low", "high")}
    largest = measured.x.abs().max().item()
    for row in rows:
        assert len(row["map"]) == GRID * GRID
        assert all(type(value) is float and value == float(f"{value:.4g}") for value in row["map"])
        assert row["low"] == -row["high"]
        assert largest <= row["high"] < largest + 0.1


def test_reads_the_plane_row_by_row_from_the_top():
    rows = measure(subject(nn.Sequential(PlainBranch(nn.Identity()))))
    x, y = maps(rows, 1).view(GRID, GRID, 2).unbind(-1)
    assert torch.equal(x, x[:1].expand(GRID, -1))
    assert torch.equal(y, y[:, :1].expand(-1, GRID))
    high = rows[0]["high"]
    centres = torch.linspace(-high, high, 2 * GRID + 1)[1::2]
    torch.testing.assert_close(x[0], centres, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(y[:, 0], centres.flip(0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("path", ["residual", "plain"])
def test_maps_the_sums_after_the_branches_with_the_statistics_of_the_examples(path, make_network):
    measured = subject(make_network("mlp8", path))
    stem, body = measured.network[1], measured.network[2]
    rows = measure(measured)
    with torch.no_grad():
        seen, mapped = stem(measured.x), stem(grid(rows[0]["high"]))
        for i, layer in enumerate(body):
            weight = layer.branch.linear.weight.T
            mean, deviation = (seen @ weight).mean(0), ((seen @ weight).var(0, correction=0) + 1e-5).sqrt()
            added = [((z @ weight - mean) / deviation).relu() for z in (seen, mapped)]
            seen, mapped = (a + z if path == "residual" else a for a, z in zip(added, (seen, mapped), strict=True))
            torch.testing.assert_close(maps(rows, i + 1), mapped, rtol=1e-3, atol=1e-4)
        assert mapped.std() > 0.1


@every_path
def test_has_the_layers_of_a_training_step_at_the_examples(path, options, make_network):
    measured = subject(make_network("mlp8", path, **options))
    found = layer_outputs(with_statistics_of(measured.network, measured.x), measured.x)
    expected = layer_outputs(measured.network, measured.x, training=True)
    assert len(found) == 8
    for layer, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(layer, reference, rtol=1e-4, atol=1e-4)


def test_maps_the_whole_pnnh_layer(make_network):
    measured = subject(make_network("mlp8", "pnnh", variant="concat"))
    rows = measure(measured)
    with torch.no_grad():
        stem = measured.network[1](grid(rows[0]["high"]))
    # The coder starts at the identity: half of the first layer's neurons are the stem's.
    torch.testing.assert_close(maps(rows, 1)[:, :16], stem[:, :16], rtol=1e-3, atol=1e-5)


@every_path
def test_keeps_the_network_and_does_not_read_its_running_statistics(path, options, make_network):
    measured = subject(make_network("mlp8", path, **options))
    network = measured.network
    expected = measure(measured)
    with torch.no_grad():
        network.train()(3 * measured.x + 1)
    kept = copy.deepcopy(network.state_dict())
    before = [(type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    assert measure(measured) == expected
    assert [
        (type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()
    ] == before
    assert all(torch.equal(kept[key], value) for key, value in network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_has_no_maps_of_anything_but_layers_on_points(make_network, make_batch):
    assert measure(Subject(make_network("resnet20"), *make_batch("resnet20"))) == []
    x = torch.zeros(4, 2, 8, 8)
    assert measure(Subject(make_network("resnet20", input_shape=(2, 8, 8)), x, torch.zeros(4, dtype=torch.long))) == []
    assert measure(Subject(make_network("vit_micro"), *make_batch("vit_micro"))) == []
    assert measure(subject(make_network("mlp8", input_shape=(3,)), width=3)) == []
    assert measure(subject(nn.Sequential(nn.Linear(2, 8), nn.ReLU()))) == []
    tokens = nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(16, 8))
    assert measure(Subject(tokens, torch.arange(8).reshape(4, 2), torch.zeros(4), layers=("2",))) == []
