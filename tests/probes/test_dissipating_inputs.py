"""Dissipating inputs: regressions against numpy, and networks of which it is known what they keep."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import rdp
from rdp.errors import UserError
from rdp.models.gates import PlainBranch
from rdp.probes import Subject, available, probe_module
from rdp.probes.layers import data_and_noise, noise_like
from rdp.probes.measures.dissipating_inputs import (
    COLUMNS,
    FEATURES,
    PENALTIES,
    correlation,
    measure,
    participation_ratio,
    project,
    reconstruction,
)
from tests.helpers.tiny import gaussian

QUANTITIES = ("reconstruction", "cka", "correlation", "rank")


class Deaf(nn.Module):
    """Noise that knows nothing of the input."""

    def forward(self, x):
        return gaussian(*x.shape, seed=7)


class Shrink(nn.Module):
    """All but a constant."""

    def forward(self, x):
        return gaussian(x.shape[1], seed=7) + 1e-3 * x


class Line(nn.Module):
    """One direction of the input, along one direction of the output."""

    def forward(self, x):
        return x[:, :1] * gaussian(x.shape[1], seed=7)


class First(nn.Module):
    """The first so many features of the input."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x):
        return x[:, : self.count]


def subject(*layers: nn.Module, size: int = 512, width: int = 16) -> Subject:
    network = nn.Sequential(*(PlainBranch(layer) for layer in layers))
    mixed = gaussian(size, width, seed=1) @ gaussian(width, width, seed=2) + gaussian(width, seed=3)
    return Subject(network, mixed, torch.zeros(size, dtype=torch.long))


def values(rows: list[dict], quantity: str, source: str) -> list[float]:
    """By layer, from 0."""
    found = [row for row in rows if (row["quantity"], row["source"]) == (quantity, source)]
    assert [row["layer"] for row in found] == list(range(len(found)))
    return [row["value"] for row in found]


def ridge(features: np.ndarray, targets: np.ndarray) -> float:
    """By normal equations, one penalty at a time."""
    n = len(features)
    fit, choose, held = slice(n // 2), slice(n // 2, 3 * n // 4), slice(3 * n // 4, n)
    z, y = features - features[fit].mean(0), targets - targets[fit].mean(0)
    unit = np.trace(z[fit].T @ z[fit]) / z.shape[1]
    weights = [np.linalg.solve(z[fit].T @ z[fit] + p * unit * np.eye(z.shape[1]), z[fit].T @ y[fit]) for p in PENALTIES]
    best = min(weights, key=lambda w: ((y[choose] - z[choose] @ w) ** 2).sum())
    return 1 - ((y[held] - z[held] @ best) ** 2).sum() / (y[held] ** 2).sum()


class TestReconstruction:
    @pytest.mark.parametrize(("k", "noise"), [(1, 0.1), (3, 1.0), (20, 0.5), (20, 30.0)])
    @pytest.mark.parametrize("n", [40, 43])
    def test_is_that_of_the_normal_equations(self, k, noise, n):
        z = gaussian(n, k).double() + 2
        y = z @ gaussian(k, 3, seed=1).double() + noise * gaussian(n, 3, seed=2).double() - 1
        expected = ridge(z.numpy(), y.numpy())
        assert reconstruction(z, y) == pytest.approx(expected, rel=1e-9)
        assert reconstruction(1e-6 * z + 1, 1e4 * y) == pytest.approx(expected, rel=1e-6)

    def test_pools_targets_by_their_variance(self):
        z = gaussian(400, 1).double()
        y = torch.cat([3 * z, gaussian(400, 1, seed=1).double()], dim=1)
        assert reconstruction(z, y) == pytest.approx(9 / 10, abs=0.03)

    def test_a_target_that_never_changes_does_not_count(self):
        z, y = gaussian(64, 3).double(), gaussian(64, 2, seed=1).double()
        assert reconstruction(z, torch.cat([y, torch.full((64, 1), 0.1)], 1)) == pytest.approx(reconstruction(z, y))
        assert math.isnan(reconstruction(z, torch.ones(64, 2).double()))

    def test_is_not_clipped(self):
        y = torch.cat([torch.zeros(48, 1), torch.full((16, 1), 5.0)]).double() + 0.1 * gaussian(64, 1).double()
        z = gaussian(64, 1).double()
        z[48:] = -20 * (gaussian(48, 1).double() * y[:48]).sum().sign()
        assert reconstruction(z, y) < 0

    def test_of_features_that_never_change_is_that_of_the_mean(self):
        y = gaussian(64, 2).double()
        expected = 1 - ((y[48:] - y[:32].mean(0)) ** 2).sum() / ((y[48:] - y[:32].mean(0)) ** 2).sum()
        assert reconstruction(torch.zeros(64, 3).double(), y) == pytest.approx(expected.item(), abs=1e-12)


class TestProjected:
    def test_standardises_and_does_not_project_few_features(self):
        z = 5 * gaussian(200, FEATURES).double() + 3
        found = project(z, 1)
        torch.testing.assert_close(found, (z - z.mean(0)) / z.std(0, correction=0))

    def test_projects_many_features_the_same_way_in_every_network(self):
        z = gaussian(200, 1000).double()
        found = project(z, 3)
        assert found.shape == (200, FEATURES)
        assert torch.equal(found, project(z, 3))
        assert not torch.allclose(found, project(z, 4))
        torch.testing.assert_close(found, project(7 * z - 1, 3))
        # Distances survive.
        assert ((found.norm(dim=1) / z.norm(dim=1)).std() / (found.norm(dim=1) / z.norm(dim=1)).mean()) < 0.1

    def test_a_feature_constant_up_to_rounding_is_dropped(self):
        z = torch.cat([gaussian(64, 2), 1000 + 1e-4 * gaussian(64, 1), torch.zeros(64, 1)], dim=1).double()
        assert (project(z, 1)[:, 2:] == 0).all()
        assert project(z, 1)[:, :2].std() > 0.9


class TestCorrelation:
    @pytest.mark.parametrize("n", [6, 7])
    def test_is_the_mean_over_disjoint_pairs(self, n):
        z = gaussian(n, 5).double()
        expected = np.mean([np.corrcoef(z[i], z[i + 1])[0, 1] for i in (0, 2, 4)])
        assert correlation(z) == pytest.approx(expected, rel=1e-9)

    def test_of_independent_examples_is_about_0(self):
        assert correlation(gaussian(1000, 64).double()) == pytest.approx(0, abs=0.02)

    def test_does_not_count_examples_whose_features_are_all_equal(self):
        z = gaussian(6, 5).double()
        expected = np.mean([np.corrcoef(z[i], z[i + 1])[0, 1] for i in (2, 4)])
        z[1] = 0.1
        assert correlation(z) == pytest.approx(expected, rel=1e-9)
        assert math.isnan(correlation(torch.ones(6, 5).double()))


class TestParticipationRatio:
    @pytest.mark.parametrize("shape", [(50, 6), (6, 50), (20, 20)])
    def test_is_that_of_the_covariances_eigenvalues(self, shape):
        z = (gaussian(*shape) * torch.linspace(0.1, 3, shape[1]) + 5).double()
        eigenvalues = np.linalg.eigvalsh(np.cov(z.numpy().T))
        expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
        assert participation_ratio(z) == pytest.approx(expected, rel=1e-5)
        assert participation_ratio(1e-30 * z) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("rank", [1, 3])
    def test_is_the_number_of_equal_directions(self, rank):
        z = torch.zeros(300, 8).double()
        z[:, :rank] = torch.linalg.qr(gaussian(300, 9).double() - gaussian(300, 9).double().mean(0))[0][:, :rank]
        assert participation_ratio(z @ torch.linalg.qr(gaussian(8, 8).double())[0]) == pytest.approx(rank, rel=1e-5)

    def test_is_unknown_where_nothing_changes(self):
        constant = torch.tensor([0.1, 0.3, 1 / 3, 1e6 / 7], dtype=torch.double).expand(150, 4)
        assert (constant - constant.mean(0)).any()  # its own mean is not quite it
        assert math.isnan(participation_ratio(constant))


class TestSources:
    @pytest.mark.parametrize("shape", [(4000, 3), (4000, 1, 2, 2)])
    def test_noise_has_the_moments_of_each_pixel(self, shape):
        scale = torch.arange(math.prod(shape[1:])).view(shape[1:]) * 1.0  # the first pixel never changes
        x = scale * gaussian(*shape).abs() + scale - 0.1
        noise = noise_like(x)
        assert noise.shape == x.shape
        assert noise.dtype == x.dtype
        assert torch.equal(noise.flatten(1)[:, 0], torch.full((4000,), -0.1))
        torch.testing.assert_close(noise.mean(0), x.mean(0), rtol=0.05, atol=0.01)
        torch.testing.assert_close(noise.std(0), x.std(0), rtol=0.05, atol=1e-6)
        assert (noise.flatten(1)[:, 1:] < -0.1).any()  # Gaussian, which the examples are not
        pixels = noise.flatten(1)[:, 1:]
        off = torch.corrcoef(pixels.T).fill_diagonal_(0)
        assert off.abs().max() < 0.06

    def test_noise_is_independent_of_the_examples_and_the_same_each_time(self):
        x = gaussian(4000, 2)
        noise = noise_like(x)
        assert abs(torch.corrcoef(torch.stack([x[:, 0], noise[:, 0]]))[0, 1]) < 0.05
        assert torch.equal(noise, noise_like(x))
        found = data_and_noise(x)
        assert list(found) == ["data", "noise"]
        assert found["data"] is x
        assert torch.equal(found["noise"], noise)


class TestMeasure:
    def test_is_a_probe_by_name(self):
        assert "dissipating_inputs" in available()
        assert probe_module("dissipating_inputs").measure is measure

    @pytest.mark.parametrize("source", ["data", "noise"])
    def test_a_network_that_hands_its_input_on_keeps_all_of_it(self, source):
        rows = measure(subject(*[nn.Identity()] * 3))
        assert values(rows, "reconstruction", source) == pytest.approx([1] * 4, abs=1e-3)
        assert values(rows, "cka", source) == pytest.approx([1] * 4, abs=1e-9)
        for quantity in ("correlation", "rank"):
            first, *rest = values(rows, quantity, source)
            assert rest == pytest.approx([first] * 3, rel=1e-6)

    def test_each_layer_has_a_projection_of_its_own(self):
        first, *others = values(measure(subject(*[nn.Identity()] * 2, width=2 * FEATURES)), "reconstruction", "data")
        assert 0.1 < first < 0.9
        assert others == pytest.approx([first] * 2, abs=0.1)
        assert len({first, *others}) == 3

    @pytest.mark.parametrize("source", ["data", "noise"])
    def test_a_network_that_does_not_listen_keeps_nothing(self, source):
        rows = measure(subject(nn.Identity(), Deaf(), nn.Identity()))
        kept = values(rows, "reconstruction", source)
        assert kept[:2] == pytest.approx([1, 1], abs=1e-3)
        assert all(-0.2 < value < 0.02 for value in kept[2:])
        assert values(rows, "cka", source)[2:] == pytest.approx([0, 0], abs=0.05)
        assert values(rows, "correlation", source)[2:] == pytest.approx([0, 0], abs=0.05)

    @pytest.mark.parametrize("source", ["data", "noise"])
    def test_inputs_that_shrink_to_a_point_look_the_same_but_are_not_lost(self, source):
        rows = measure(subject(Shrink()))
        assert values(rows, "correlation", source)[1] == pytest.approx(1, abs=1e-3)
        assert values(rows, "reconstruction", source)[1] == pytest.approx(1, abs=1e-3)
        assert values(rows, "cka", source)[1] == pytest.approx(1, abs=1e-3)

    @pytest.mark.parametrize("source", ["data", "noise"])
    def test_a_network_of_one_direction_has_rank_1(self, source):
        rows = measure(subject(Line()))
        assert values(rows, "rank", source)[0] > 5
        assert values(rows, "rank", source)[1] == pytest.approx(1, abs=1e-5)

    def test_noise_is_reconstructed_from_the_noise(self):
        # The inputs lie in a plane, the noise does not: a layer that reads two features tells both of the former.
        x = gaussian(512, 2) @ gaussian(2, 16, seed=1)
        network = nn.Sequential(PlainBranch(First(2)))
        rows = measure(Subject(network, x, torch.zeros(512, dtype=torch.long)))
        assert values(rows, "reconstruction", "data")[1] == pytest.approx(1, abs=1e-3)
        variances = x.var(0)
        expected = (variances[:2].sum() / variances.sum()).item()
        assert values(rows, "reconstruction", "noise")[1] == pytest.approx(expected, abs=0.05)

    @pytest.mark.parametrize(
        ("name", "path", "layers"),
        [
            # A learner of two layers is one layer of the network.
            *[("mlp8", "residual", 8), ("mlp8", "plain", 8), ("mlp8", "pnnh", 4)],
            *[("resnet20", "residual", 9), ("resnet20", "plain", 9), ("resnet20", "pnnh", 11)],
            *[("resnet18", "residual", 8), ("resnet18", "plain", 8), ("resnet18", "pnnh", 12)],
            *[("vit_micro", path, 12) for path in ("residual", "plain", "pnnh")],
        ],
    )
    def test_measures_each_layer_and_keeps_the_network(self, name, path, layers, make_network, make_batch):
        network, (x, y) = make_network(name, path), make_batch(name, 32)
        kept = copy.deepcopy(network.state_dict())
        before = [(type(m), m.training, len(m._forward_hooks)) for m in network.modules()]
        rows = measure(Subject(network, x, y, trained=False))
        assert [(row["source"], row["layer"], row["quantity"]) for row in rows] == [
            (source, layer, quantity)
            for source in ("data", "noise")
            for layer in range(layers + 1)
            for quantity in QUANTITIES
        ]
        assert all(tuple(row) == COLUMNS and type(row["value"]) is float for row in rows)
        assert all(math.isfinite(row["value"]) for row in rows)
        assert measure(Subject(network.eval(), x, y)) == rows
        network.train(before[0][1])
        assert [(type(m), m.training, len(m._forward_hooks)) for m in network.modules()] == before
        assert all(torch.equal(kept[key], value) for key, value in network.state_dict().items())

    def test_does_not_read_running_statistics(self, make_network, make_batch):
        network, (x, y) = make_network("resnet20"), make_batch("resnet20", 32)
        rows = measure(Subject(network, x, y))
        with torch.no_grad():
            network.train()(3 * x + 1)
        assert measure(Subject(network, x, y)) == rows

    def test_is_nothing_without_layers(self):
        x = gaussian(8, 2)
        assert measure(Subject(nn.Sequential(nn.Linear(2, 2)), x, torch.zeros(8))) == []

    def test_refuses_too_few_examples(self):
        with pytest.raises(ValueError, match="at least 4 examples"):
            measure(subject(nn.Identity(), size=3))

    def test_refuses_tokens_in_one_line(self):
        network, tokens = nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 8)), torch.arange(40).reshape(8, 5) % 10
        line = "probe dissipating_inputs: needs an input of real numbers, got one of torch.int64"
        with pytest.raises(UserError, match=line):
            rdp.probe("dissipating_inputs", network, tokens, layers=["1"])
        assert rdp.probe("dissipating_inputs", network[1], network[0](tokens).detach(), layers=[""])
