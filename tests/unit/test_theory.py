"""Closed forms of untrained layers, against Monte Carlo, integration, and networks without normalisation.

A Monte Carlo mean is over independent draws, seeded, and has to agree within 4.5 of its standard errors.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import nn

from rdp import theory
from rdp.theory import (
    Moments,
    alike_by_depth,
    by_depth,
    cantelli,
    pre_activation,
    rectified_correlation,
    rectified_gaussian,
    rectified_product,
    survival,
    survival_behind_stem,
)
from tests.unit.tiny import gaussian

PATHS = {
    "plain": ("plain", {}),
    "residual": ("residual", {}),
    "concat": ("pnnh", {"variant": "concat"}),
    "sum": ("pnnh", {"variant": "sum"}),
}
every_path = pytest.mark.parametrize("path", PATHS)
DEPTH, WIDTH, SEEDS = 8, 256, 32
COSINES = (-0.5, 0.0, 0.9)
GAUSSIAN, RECTIFIED = Moments(0.0, 1.0), rectified_gaussian(0, 1)
INPUTS = {"zero-mean": GAUSSIAN, "rectified": RECTIFIED}
every_input = pytest.mark.parametrize("kind", INPUTS)


def assert_mean(draws: np.ndarray, expected: object, at_most: float | np.ndarray) -> None:
    """The mean over the first axis is as expected, and known well enough for that to say something.

    Args:
        draws: shape (n, …).
        at_most: what a standard error may be.
    """
    error = draws.std(0, ddof=1) / math.sqrt(len(draws))
    assert (error < at_most).all(), error.max(0)
    deviation = np.abs(draws.mean(0) - np.asarray(expected)) / (error + 1e-12)
    assert np.max(deviation) < 4.5, np.round(deviation, 1)


class TestPreActivation:
    @pytest.mark.parametrize("norm_gain", [None, 0.2, 1.0])
    @pytest.mark.parametrize("path", ["plain", "residual"])
    @pytest.mark.parametrize("shift", [-0.5, 0.0, 2.0])
    def test_its_moments_are_those_of_drawn_layers(self, shift, path, norm_gain):
        # Skewed inputs and weights of two values: nothing but the moments enters.
        generator, width, draws = np.random.default_rng(0), 64, []
        for _ in range(400):
            x = generator.exponential(size=(64, width)) - 1 + shift
            weight = generator.choice([-1, 1], (width, width)) * math.sqrt(2 / width)
            z = x @ weight.T
            if norm_gain is not None:
                z = norm_gain * (z - z.mean(0)) / z.std(0)
            if path == "residual":
                z = z + x
            draws.append([z.mean(), (z**2).mean()])
        q = 1 + shift**2
        expected = pre_activation(path, shift, q, norm_gain)
        assert_mean(np.array(draws), expected, at_most=0.01 * 3 * q)

    def test_the_papers_readings_are_both_exact_at_mean_0(self):
        assert theory.readings("plain", 0, 1.7) == pytest.approx((3.4, 3.4, 3.4))
        assert theory.readings("residual", 0, 1.7) == pytest.approx((5.1, 5.1, 5.1))

    @pytest.mark.parametrize(
        ("path", "variance", "second"),
        [
            ("plain", lambda r: 1 / (1 - r), lambda r: 1),
            ("residual", lambda r: (3 - r) / (3 * (1 - r)), lambda r: 1 - r / 3),
        ],
    )
    def test_elsewhere_they_are_off_by_the_stated_factors(self, path, variance, second):
        for mean, q in [(0.5, 1.0), (-1.0, 3.0), RECTIFIED]:
            found = theory.readings(path, mean, q)
            r = mean**2 / q
            assert found.exact / found.as_variance == pytest.approx(variance(r))
            assert found.exact / found.as_second == pytest.approx(second(r))
        assert r == pytest.approx(1 / math.pi)
        table = {"plain": (1.467, 1), "residual": (1.311, 0.894)}[path]
        assert (variance(r), second(r)) == pytest.approx(table, abs=5e-4)

    def test_what_no_layer_has_is_refused(self):
        with pytest.raises(ValueError, match="unknown path 'sums'; did you mean 'sum'"):
            pre_activation("sums", 0, 1)
        with pytest.raises(ValueError, match="second moment of 1 is below the square of the mean, 2"):
            by_depth("plain", 3, 2, 1)
        with pytest.raises(ValueError, match="are of the paths plain and residual; got 'concat'"):
            theory.readings("concat", 0, 1)


class TestRectified:
    @pytest.mark.parametrize("mean", [-6.0, -1.0, 0.0, 0.7, 9.0])
    @pytest.mark.parametrize("deviation", [0.5, 1.0, 3.0])
    def test_moments_are_the_integrals(self, mean, deviation):
        def moment(power: int) -> float:
            def term(z: float) -> float:
                return z**power * math.exp(-(((z - mean) / deviation) ** 2) / 2) / deviation / math.sqrt(2 * math.pi)

            top = max(mean, 0) + 9 * deviation
            return integrate.quad(term, 0, top, points=[max(mean, 0)], epsabs=0, epsrel=1e-11)[0]

        assert rectified_gaussian(mean, deviation**2) == pytest.approx((moment(1), moment(2)), rel=1e-7)
        assert survival(mean, deviation**2) == pytest.approx(moment(0), rel=1e-9)

    def test_constants(self):
        assert rectified_gaussian(0, 4) == pytest.approx((2 / math.sqrt(2 * math.pi), 2))
        assert rectified_gaussian(2, 0) == (2, 4)
        assert rectified_gaussian(-2, 0) == (0, 0)
        assert (survival(1, 0), survival(0, 0), survival(0, 5)) == (1, 0, 0.5)
        assert (rectified_product(2, 0, 1), rectified_product(-2, 0, 0)) == (4, 0)

    @pytest.mark.parametrize("mean", [-1.0, 0.0, 0.8, 3.0])
    @pytest.mark.parametrize("correlation", [-1.0, -0.6, 0.0, 0.3, 0.99, 1.0])
    def test_the_product_is_the_integral(self, correlation, mean):
        variance = 1.7
        deviation = math.sqrt(variance)

        def term(t: float) -> float:
            """phi(u) times the mean of phi(v) given u, at u = mean + t deviations."""
            given = rectified_gaussian(mean + correlation * t * deviation, variance * (1 - correlation**2))
            return (mean + t * deviation) * given.mean * math.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)

        edges = [mean / deviation] if correlation == -1 else None
        expected = integrate.quad(term, -mean / deviation, 9, points=edges, epsabs=1e-12)[0]
        assert rectified_product(mean, variance, correlation) == pytest.approx(expected, rel=1e-7, abs=1e-10)

    def test_at_mean_0_it_is_the_arc_cosine_kernel(self):
        for c in np.linspace(-1, 1, 41):
            assert rectified_correlation(c) == pytest.approx(rectified_product(0, 3.0, c) / 1.5, abs=1e-12)
            assert rectified_correlation(c) > c or c == 1
        assert [rectified_correlation(c) for c in (-1.0, 0.0, 1.0)] == pytest.approx([0, 1 / math.pi, 1])

    def test_a_correlation_beyond_1_is_refused(self):
        with pytest.raises(ValueError, match=r"math domain|expected a number"):
            rectified_correlation(1.01)


class TestCantelli:
    @pytest.mark.parametrize(
        "share",
        [
            lambda mean, sd: survival(mean, sd**2),
            lambda mean, sd: np.clip((mean + math.sqrt(3) * sd) / (2 * math.sqrt(3) * sd), 0, 1),
            lambda mean, sd: math.exp(min(mean / sd - 1, 0)),
            lambda mean, sd: 1 - math.exp(min(-mean / sd - 1, 0)),
        ],
        ids=["gaussian", "uniform", "exponential", "mirrored exponential"],
    )
    def test_no_survival_is_below_the_bound(self, share: Callable[[float, float], float]):
        generator = np.random.default_rng(0)
        for mean, sd in zip(generator.normal(size=2000), generator.exponential(size=2000), strict=True):
            assert share(mean, sd) >= cantelli(mean, sd**2) - 1e-12

    def test_two_values_attain_it(self):
        mean, variance = 0.6, 2.5
        share = cantelli(mean, variance)
        high = mean / share  # with this share, else 0
        assert share * high**2 - mean**2 == pytest.approx(variance)
        assert 0 < share < survival(mean, variance)

    def test_without_a_positive_mean_it_says_nothing(self):
        assert [cantelli(mean, 1.0) for mean in (0, -3)] == [0, 0]
        assert cantelli(2, 0) == 1


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
    """What each layer does with pairs of inputs, shape (2, pairs, width), the pairs of each cosine in a row.

    Returns:
        A row a layer: the columns of `limit`, E[x^2] of what it read, and for each of `COSINES` the mean over pairs
        of the outputs' cosine, then of their correlation.
    """
    pre_activations, found = [], []

    def look(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        z, read = pre_activations[-1], inputs[0]
        row = [z.mean(), z.square().mean(), (z > 0).float().mean(), output.mean(), output.square().mean()]
        row.append(read.square().mean())
        for y in (output, output - output.mean(1, keepdim=True)):
            one, other = y.view(*x.shape)
            row += nn.functional.cosine_similarity(one, other, dim=1).view(len(COSINES), -1).mean(1)
        found.append([float(value) for value in row])

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: pre_activations.append(inputs[0]))
        for module in body.modules()
        if isinstance(module, nn.ReLU)
    ]
    hooks += [layer.register_forward_hook(look) for layer in getattr(body, "layers", body)]
    body(x.flatten(0, 1))
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
            one, other = gaussian(2, 8 * len(COSINES), WIDTH, seed=seed)
            cosine = torch.tensor(COSINES).repeat_interleave(8)[:, None]
            x = torch.stack([one, cosine * one + (1 - cosine**2).sqrt() * other])
            rows["zero-mean"].append(measure(body, x))
            rows["rectified"].append(measure(body, x.relu()))
        return {kind: np.array(values) for kind, values in rows.items()}

    return lambda path, kind: of(path)[kind]


class TestNetworksWithoutNorms:
    @every_input
    @every_path
    def test_every_layer_has_the_moments_of_infinite_width(self, path, kind, measured):
        rows, expected = measured(path, kind), limit(path, kind, DEPTH)
        assert rows.shape == (SEEDS, DEPTH, 6 + 2 * len(COSINES))
        # In units of what the layer read, for the scale of a network of finite width wanders.
        power = np.array([0.5, 1, 0, 0.5, 1])
        read = np.array([INPUTS[kind].second, *expected[:-1, 4]])
        drawn = rows[..., :5] / rows[..., 5:6] ** power
        assert_mean(drawn, expected / read[:, None] ** power, at_most=np.array([0.025, 0.06, 0.008, 0.012, 0.05]))
        scale = rows[..., 4] / expected[:, 4]
        assert_mean(scale, np.ones(DEPTH), at_most=0.02 * np.sqrt(np.arange(1, DEPTH + 1)))

    @every_input
    @every_path
    def test_survival_is_that_of_by_depth_within_2_points_at_every_layer(self, path, kind, measured):
        expected = [layer.survival for layer in by_depth(path, DEPTH, *INPUTS[kind])]
        assert np.abs(measured(path, kind)[..., 2].mean(0) - expected).max() < 0.02

    @every_input
    @every_path
    def test_inputs_become_alike_as_alike_by_depth_says(self, path, kind, measured):
        drawn = measured(path, kind)[..., 6:]
        starts = [c if kind == "zero-mean" else rectified_correlation(c) for c in COSINES]
        found = [alike_by_depth(path, DEPTH, c, *INPUTS[kind]) for c in starts]
        expected = np.array(
            [[*(a.cosine for a in row), *(a.correlation for a in row)] for row in zip(*found, strict=True)]
        )
        if path != "residual":
            assert_mean(drawn, expected, at_most=0.012)
            return
        # The pair (z, z') is no Gaussian: the cosine is up to 0.045 too high, the correlation 0.065.
        excess = expected - drawn.mean(0)
        noise = 4.5 * drawn.std(0, ddof=1) / math.sqrt(SEEDS)
        assert (excess > -noise).all()
        assert (excess < np.repeat([0.045, 0.065], len(COSINES)) + noise).all()
        assert excess[:, 0].max() > 0.02


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

    @pytest.mark.parametrize("gain", [1.0, 0.3])
    def test_behind_a_stem_of_the_same_gain_survival_is_a_random_walks(self, gain):
        generator, rows = np.random.default_rng(0), []
        x = np.zeros(100_000)
        for _ in range(33):
            z = x + gain * generator.standard_normal(len(x))
            x = np.maximum(z, 0)
            rows.append((z > 0).mean())
        expected = [survival_behind_stem(layer) for layer in range(33)]
        np.testing.assert_allclose(rows, expected, atol=4.5 * 0.5 / math.sqrt(len(x)))
        assert expected[:2] == [0.5, 0.625]

    def test_it_is_that_of_networks_of_finite_width(self):
        rows = np.mean([drawn_with_norms("residual", 1.0, DEPTH, True, seed) for seed in range(4)], axis=0)
        np.testing.assert_allclose(rows[:, 2], [survival_behind_stem(n) for n in range(1, DEPTH + 1)], atol=0.01)


class TestDepth:
    @every_path
    def test_110_layers_and_more_are_finite(self, path):
        for norm_gain in (None, 1.0):
            layers = by_depth(path, 330, 0.0, 1.0, norm_gain)
            assert np.isfinite(np.array(layers)).all()
            assert [layer.layer for layer in layers] == list(range(1, 331))
        assert all(0 <= a.cosine <= 1 for a in alike_by_depth(path, 330, 0.0))

    def test_plain_layers_keep_the_second_moment_and_residual_ones_do_not(self):
        assert by_depth("plain", 110, 0.3, 1.3)[-1][1:] == pytest.approx(
            (0, 2.6, 0.5, 0, math.sqrt(1.3 / math.pi), 1.3)
        )
        *_, before, last = by_depth("residual", 110, 0.0, 1.0)
        assert last.output_second / before.output_second == pytest.approx(2.373, abs=1e-3)

    def test_only_concat_keeps_inputs_apart(self):
        last = {path: alike_by_depth(path, 110, 0.2)[-1].cosine for path in PATHS}
        assert min(last[path] for path in ("plain", "residual", "sum")) > 0.99
        assert 2 * last["concat"] - rectified_correlation(last["concat"]) == pytest.approx(0.2)
        assert last["concat"] < 0.4

    def test_plain_layers_forget_which_inputs_were_alike_and_residual_ones_do_not(self):
        def ratio(path: str, depth: int) -> float:
            """Of 1 - cosine, for inputs that started at 0 and at 0.9."""
            far, near = (alike_by_depth(path, depth, c)[-1].cosine for c in (0.0, 0.9))
            return (1 - far) / (1 - near)

        assert ratio("plain", 4000) == pytest.approx(1, abs=0.01)
        assert 1 - alike_by_depth("plain", 4000, 0.0)[-1].cosine == pytest.approx(4.5 * (math.pi / 4000) ** 2, rel=0.02)
        assert ratio("residual", 60) == pytest.approx(ratio("residual", 90), rel=0.01)
        assert ratio("residual", 90) > 3
        assert ratio("sum", 30) == pytest.approx(ratio("sum", 50), rel=0.01)
        assert ratio("sum", 50) > 3

    def test_a_cosine_that_no_inputs_have_is_refused(self):
        with pytest.raises(ValueError, match=r"no inputs of mean 1 and second moment 1\.5 have a cosine of 0"):
            alike_by_depth("plain", 3, 0.0, 1.0, 1.5)
        with pytest.raises(ValueError, match="no inputs of mean 0 and second moment 0 have"):
            alike_by_depth("plain", 3, 0.0, 0.0, 0.0)
