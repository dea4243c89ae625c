"""Closed forms of one untrained layer, compared with Monte Carlo and integration."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import integrate

from rdp.claims import theory
from rdp.claims.theory import by_depth, cantelli, pre_activation, rectified_gaussian, survival
from tests.helpers.monte_carlo import assert_mean


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
        for mean, q in [(0.5, 1.0), (-1.0, 3.0), rectified_gaussian(0, 1)]:
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
        with pytest.raises(ValueError, match="unknown path 'concat'; valid: plain, residual"):
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
