"""Surviving neurons: shares and moments by hand, and Cantelli's bound below every share."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rdp
from rdp.probes import Subject, available, probe_module
from rdp.probes.layers import noise_like
from rdp.probes.measures.surviving_neurons import COLUMNS, measure
from tests.helpers.tiny import gaussian


def rows_of(network: nn.Module, x: torch.Tensor, source: str = "data") -> list[dict]:
    rows = measure(Subject(network, x, torch.zeros(len(x), dtype=torch.long)))
    assert {row["source"] for row in rows} == {"data", "noise"}
    return [row for row in rows if row["source"] == source]


def test_is_a_probe_by_name():
    assert "surviving_neurons" in available()
    assert probe_module("surviving_neurons").measure is measure


@pytest.mark.parametrize("kind", [nn.ReLU, nn.GELU])
def test_counts_by_hand(kind):
    x = torch.tensor([[1.0, -1.0, 0.0], [3.0, -2.0, 0.0], [-1.0, -3.0, 0.0], [1.0, 4.0, -2.0]])
    (row,) = rows_of(nn.Sequential(kind()), x)
    assert set(row) == set(COLUMNS)
    assert (row["layer"], row["name"]) == (1, "0")
    assert row["positive"] == 4 / 12
    assert row["dead"] == pytest.approx(1 / 3)
    assert row["mean"] == 0
    assert row["variance"] == 46 / 12
    assert row["bound"] == 0
    (row,) = rows_of(nn.Sequential(kind()), x + 1)
    assert row["mean"] == 1
    assert row["bound"] == pytest.approx(1 / (1 + 46 / 12))
    assert row["positive"] == 7 / 12


@pytest.mark.parametrize(
    ("shape", "channel"), [((4, 3), 1), ((4, 3, 2, 2), 1), ((4, 5, 3), 2)], ids=["features", "image", "tokens"]
)
def test_a_channel_is_dead_where_no_place_of_it_lives(shape, channel):
    x = gaussian(*shape).abs()
    x.movedim(channel, 0)[1] *= -1
    x.movedim(channel, 0)[2].flatten()[1:] *= -1
    assert rows_of(nn.Sequential(nn.ReLU()), x)[0]["dead"] == pytest.approx(1 / 3)


def test_of_a_transformer_are_those_of_its_mlps(make_network, make_batch):
    network, (x, y) = make_network("vit_micro"), make_batch("vit_micro")
    rows = measure(Subject(network, x, y))
    assert [row["name"] for row in rows] == 2 * [f"blocks.{i}.mlp.act" for i in range(6)]
    assert [row["layer"] for row in rows] == 2 * list(range(1, 7))
    seen = []
    network.blocks[0].mlp.fc1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        network.train()(x)
    assert rows[0]["positive"] == pytest.approx((seen[0] > 0).double().mean().item())
    assert rows[0]["dead"] == pytest.approx(1 - (seen[0] > 0).flatten(0, 1).any(0).double().mean().item())
    assert rows[0]["variance"] == pytest.approx(seen[0].var(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize("path", ["residual", "plain", "pnnh"])
@pytest.mark.parametrize("name", ["mlp8", "resnet20", "resnet18", "vit_micro"])
def test_shares_are_above_their_bounds_and_the_network_unchanged(name, path, make_network, make_batch):
    network, (x, y) = make_network(name, path), make_batch(name, 32)
    kept = copy.deepcopy(network.state_dict())
    before = [(type(m), m.training, len(m._forward_pre_hooks)) for m in network.modules()]
    rows = measure(Subject(network, x, y))
    assert rows
    assert all(0 <= row["bound"] <= row["positive"] + 1e-12 for row in rows)
    assert measure(Subject(network, x, y)) == rows
    assert [(type(m), m.training, len(m._forward_pre_hooks)) for m in network.modules()] == before
    assert all(torch.equal(kept[key], value) for key, value in network.state_dict().items())


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30))
def test_the_bound_is_a_theorem(numbers):
    (row,) = rows_of(nn.Sequential(nn.ReLU()), torch.tensor(numbers)[:, None] / 8)
    assert 0 <= row["bound"] <= row["positive"] + 1e-12
    assert (row["bound"] == 0) == (sum(numbers) <= 0)


@pytest.mark.parametrize("alive", [1, 5, 10])
def test_the_bound_is_reached_by_a_distribution_of_two_points(alive):
    x = torch.zeros(10, 1)
    x[:alive] = 3
    (row,) = rows_of(nn.Sequential(nn.ReLU()), x)
    assert row["bound"] == pytest.approx(row["positive"], rel=1e-12)
    assert row["positive"] == alive / 10


def test_noise_is_fed_to_the_same_network(make_network, make_batch):
    network, (x, y) = make_network("resnet20"), make_batch("resnet20", 32)
    rows = measure(Subject(network, x, y))
    fed = measure(Subject(network, noise_like(x), y))
    count = len(rows) // 2
    without = [{key: value for key, value in row.items() if key != "source"} for row in [*rows, *fed]]
    assert without[count : 2 * count] == without[2 * count : 3 * count]
    assert without[:count] != without[count : 2 * count]


class TestTokens:
    """Inputs of integers, which are indices and have no Gaussian noise."""

    tokens = torch.arange(40).reshape(8, 5) % 10
    network = nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 8), nn.ReLU())

    @pytest.mark.parametrize("layers", [None, ["2"]])
    def test_of_a_network_that_reads_tokens_are_those_of_its_rectifier(self, layers):
        rows = rdp.probe("surviving_neurons", self.network, self.tokens, layers=layers)
        assert [(row["source"], row["name"]) for row in rows] == [("data", "2"), ("noise", "2")]
        with torch.no_grad():
            for row, x in zip(rows, (self.tokens, noise_like(self.tokens)), strict=True):
                z = self.network[:2](x)
                assert row["positive"] == pytest.approx((z > 0).double().mean().item())
                assert row["dead"] == 1 - (z > 0).flatten(0, 1).any(0).double().mean().item()
                assert row["mean"] == pytest.approx(z.mean().item(), rel=1e-4)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
    def test_noise_permutes_the_tokens_of_each_position(self, dtype):
        x = torch.arange(600).reshape(200, 3).remainder(7).to(dtype)
        noise = noise_like(x)
        assert noise.dtype == dtype
        assert torch.equal(noise.sort(0).values, x.sort(0).values)
        assert not torch.equal(noise, x)
        moved = torch.arange(200)[:, None].repeat(1, 3)
        same = (noise_like(moved)[:, 0] == noise_like(moved)[:, 1]).double().mean()
        assert same < 0.05  # of 200 examples, about one has the same place in two permutations
