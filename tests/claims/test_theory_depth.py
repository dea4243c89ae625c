"""Closed forms of stacks of untrained layers, compared with networks and the limit of infinite width."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from rdp.claims.theory import Moments, by_depth, cantelli, rectified_gaussian
from tests.helpers.monte_carlo import assert_mean
from tests.helpers.tiny import gaussian

PATHS = {
    "plain": ("plain", {}),
    "residual": ("residual", {}),
    "concat": ("pnnh", {"variant": "concat"}),
    "sum": ("pnnh", {"variant": "sum"}),
}
every_path = pytest.mark.parametrize("path", PATHS)
DEPTH, WIDTH, SEEDS, EXAMPLES = 8, 256, 32, 48
RECTIFIED = rectified_gaussian(0, 1)
INPUTS = {"zero-mean": Moments(0.0, 1.0), "rectified": RECTIFIED}
every_input = pytest.mark.parametrize("kind", INPUTS)


def chain(depth: int, variance: float) -> list[tuple[float, ...]]:
    """x <- phi(x + g), g of variance 2 E[x^2], from a rectified Gaussian of this variance, by numerical convolution.

    It is what a unit of ``residual`` follows in the limit of infinite width.

    Returns:
        For each layer E[z], E[z^2], P(z > 0), and mean and second moment of the output.
    """
    step = 0.02
    grid = np.arange(step / 2, 16, step)

    def normal(z: np.ndarray, sd: float) -> np.ndarray:
        return np.exp(-((z / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi))

    zero, density, scale = 0.5, normal(grid, math.sqrt(2)), math.sqrt(variance / 2)  # E[x^2] = 1 in units of scale
    points, apart, rows = grid, step, []
    for _ in range(depth):
        mean = (points * density).sum() * apart
        spread = normal(grid[:, None] - points, math.sqrt(2)) @ density * apart
        density = zero * normal(grid, math.sqrt(2)) + spread
        zero = 1 - density.sum() * step
        moments = [(grid**power * density).sum() * step * scale**power for power in (1, 2)]
        rows.append((mean * scale, 3 * scale**2, 1 - zero, *moments))
        unit = math.sqrt(moments[1]) / scale
        points, apart, density, scale = grid / unit, step / unit, density * unit, scale * unit
    return rows


def limit(path: str, kind: str, depth: int) -> np.ndarray:
    """As `chain`, shape (depth, 5), for any path: what networks come to as their width grows."""
    rows = [(m, v + m**2, share, *out) for _, m, v, share, _, *out in by_depth(path, depth, *INPUTS[kind])]
    if path == "residual":
        rows = [*rows[:1], *chain(depth - 1, 3.0)] if kind == "zero-mean" else chain(depth, 1.0)
    return np.array(rows)


@torch.no_grad()
def measure(body: nn.Module, x: torch.Tensor) -> list[list[float]]:
    """What each layer does with inputs, shape (n, width): the columns of `limit` and E[x^2] of its input."""
    pre_activations, found = [], []

    def look(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        z = pre_activations[-1]
        row = [z.mean(), z.square().mean(), (z > 0).float().mean(), output.mean(), output.square().mean()]
        found.append([float(value) for value in (*row, inputs[0].square().mean())])

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: pre_activations.append(inputs[0]))
        for module in body.modules()
        if isinstance(module, nn.ReLU)
    ]
    hooks += [layer.register_forward_hook(look) for layer in getattr(body, "layers", body)]
    body(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.fixture(scope="module")
def measured(make_network) -> Callable[[str, str], np.ndarray]:
    """`measure` of untrained networks, for inputs of a kind: (seeds, layers, columns)."""

    @cache
    def of(path: str) -> dict[str, np.ndarray]:
        rows = {kind: [] for kind in INPUTS}
        for seed in range(SEEDS):
            name, options = PATHS[path]
            body = make_network("bare8", name, seed=seed, input_shape=(4,), **options)[2]
            x = gaussian(EXAMPLES, WIDTH, seed=seed)
            rows["zero-mean"].append(measure(body, x))
            rows["rectified"].append(measure(body, x.relu()))
        return {kind: np.array(values) for kind, values in rows.items()}

    return lambda path, kind: of(path)[kind]


class TestNetworksWithoutNorms:
    @every_input
    @every_path
    def test_every_layer_has_the_moments_of_infinite_width(self, path, kind, measured):
        rows, expected = measured(path, kind), limit(path, kind, DEPTH)
        assert rows.shape == (SEEDS, DEPTH, 6)
        # In units of what the layer read, for the scale of a network of finite width wanders.
        power = np.array([0.5, 1, 0, 0.5, 1])
        read = np.array([INPUTS[kind].second, *expected[:-1, 4]])
        drawn = rows[..., :5] / rows[..., 5:] ** power
        assert_mean(drawn, expected / read[:, None] ** power, at_most=np.array([0.025, 0.06, 0.008, 0.012, 0.05]))
        scale = rows[..., 4] / expected[:, 4]
        assert_mean(scale, np.ones(DEPTH), at_most=0.02 * np.sqrt(np.arange(1, DEPTH + 1)))

    @every_input
    @every_path
    def test_survival_is_that_of_by_depth_within_2_points_at_every_layer(self, path, kind, measured):
        expected = [layer.survival for layer in by_depth(path, DEPTH, *INPUTS[kind])]
        assert np.abs(measured(path, kind)[..., 2].mean(0) - expected).max() < 0.02


@pytest.fixture(scope="module")
def excess() -> np.ndarray:
    """Of `by_depth` over the chain for a rectified input, relative: survival, second moment, bound by layer."""
    layers = by_depth("residual", 32, *RECTIFIED)
    rows = np.array(chain(32, 1.0))
    bound = [cantelli(mean, square - mean**2) for mean, square in rows[:, :2]]
    found = np.array([[layer.survival, layer.output_second, layer.bound] for layer in layers])
    return found / np.stack([rows[:, 2], rows[:, 4], bound], axis=1) - 1


class TestResidualClosure:
    """What it costs to take z as Gaussian, against the chain, which is exact in the limit of infinite width."""

    def test_the_chain_has_the_exact_survival_of_its_first_layer(self):
        # Half the units read 0; of the others, a half-normal plus a normal of equal variance is positive at 3 / 4.
        assert chain(1, 7.0)[0][2] == pytest.approx(0.5 * 0.5 + 0.5 * 0.75, abs=1e-4)

    def test_survival_is_1_4_percent_too_high_and_nowhere_more_than_1_8(self, excess):
        assert (excess[:, 0] > 0.013).all()
        assert (excess[:, 0] < 0.018).all()
        assert excess[-1, 0] == pytest.approx(0.0138, abs=2e-4)

    def test_the_bound_is_at_most_5_3_percent_too_high(self, excess):
        assert excess[0, 2] == pytest.approx(0, abs=1e-3)
        assert 0.05 < excess[:, 2].max() < 0.053

    def test_the_second_moment_is_within_10_percent_up_to_layer_8_and_30_too_low_at_32(self, excess):
        assert excess[0, 1] == pytest.approx(-0.0287, abs=5e-4)
        assert (np.diff(excess[:, 1]) < 0).all()
        assert excess[7, 1] > -0.1 > excess[8, 1]
        assert excess[31, 1] == pytest.approx(-0.303, abs=5e-3)


def drawn_with_norms(path: str, gain: float, depth: int, rectified: bool, seed: int) -> list[list[float]]:
    """Layers of one network with batch norms of this gain: mean, variance, survival of z, moments of the output."""
    generator, rows = np.random.default_rng(seed), []
    x = generator.standard_normal((96, WIDTH))
    x = np.maximum(x, 0) if rectified else x
    for _ in range(depth):
        z = x @ generator.standard_normal((WIDTH, WIDTH // 2 if path == "concat" else WIDTH))
        z = gain * (z - z.mean(0)) / z.std(0) + (x if path == "residual" else 0)
        new = np.maximum(z, 0)
        if path == "concat":
            new = np.concatenate([x[:, : WIDTH // 2], new], axis=1)
        x = x + new if path == "sum" else new
        rows.append([z.mean(), z.var(), (z > 0).mean(), x.mean(), (x**2).mean()])
    return rows


class TestNorms:
    @pytest.mark.parametrize(("gain", "kind"), [(1.0, "rectified"), (0.3, "zero-mean")])
    @every_path
    def test_every_layer_has_the_moments(self, path, gain, kind):
        found = np.mean([drawn_with_norms(path, gain, DEPTH, kind == "rectified", seed) for seed in range(2)], axis=0)
        layers = by_depth(path, DEPTH, *INPUTS[kind], gain)
        expected = np.array([[x.mean, x.variance, x.survival, x.output_mean, x.output_second] for x in layers])
        if path == "residual":
            assert found[0, :3] == pytest.approx(expected[0, :3], rel=0.03, abs=0.03)
            assert (expected[:, 2] - found[:, 2] < 0.055).all()
            assert ((found[:, 1] / expected[:, 1]) > 0.98).all()
            assert ((found[:, 1] / expected[:, 1]) < 1.5).all()
            return
        np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.005)
        assert [(x.mean, x.bound) for x in layers] == [(0, 0)] * DEPTH
        assert all(x.variance == pytest.approx(gain**2) for x in layers)


class TestDepth:
    @every_path
    def test_110_layers_and_more_are_finite(self, path):
        for norm_gain in (None, 1.0):
            layers = by_depth(path, 330, 0.0, 1.0, norm_gain)
            assert np.isfinite(np.array(layers)).all()
            assert [layer.layer for layer in layers] == list(range(1, 331))

    def test_plain_layers_keep_the_second_moment_and_residual_ones_do_not(self):
        assert by_depth("plain", 110, 0.3, 1.3)[-1][1:] == pytest.approx(
            (0, 2.6, 0.5, 0, math.sqrt(1.3 / math.pi), 1.3)
        )
        *_, before, last = by_depth("residual", 110, 0.0, 1.0)
        assert last.output_second / before.output_second == pytest.approx(2.373, abs=1e-3)
