"""Power against simulation, statsmodels, and the numbers the studies were designed with."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from rdp.stats import Effect, power


@pytest.mark.parametrize("n", [3, 5, 10])
def test_detectable_effect_is_detected_with_the_stated_power(n: int) -> None:
    effect = power.detectable_effect(n, spread=1.0)
    g = np.random.default_rng(n)
    rate = np.mean([Effect(tuple(g.normal(effect, 1.0, n))).p_value("above", 0.0) < 0.05 for _ in range(2000)])
    assert rate == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_detectable_effect_matches_statsmodels(n: int) -> None:
    expected = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8, alternative="two-sided")
    assert power.detectable_effect(n, spread=1.0) == pytest.approx(expected, rel=1e-3)


def test_detectable_effect_shrinks_with_seeds_and_grows_with_spread() -> None:
    sizes = [power.detectable_effect(n, 1.0) for n in (3, 5, 10, 30)]
    assert sizes == sorted(sizes, reverse=True)
    assert power.detectable_effect(5, 2.0) == pytest.approx(2 * sizes[1])
    assert power.detectable_effect(1, 1.0) == math.inf
    assert power.detectable_effect(5, 0.0) == 0.0


@pytest.mark.parametrize(("n", "expected"), [(5, 0.29), (10, 0.80)])
def test_a_margin_of_one_spread_needs_ten_seeds(n: int, expected: float) -> None:
    assert power.equivalence_power(n, spread=1.0, margin=1.0) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("n", "margin"), [(3, 2.0), (5, 1.0), (10, 0.7)])
def test_equivalence_is_shown_with_the_stated_power(n: int, margin: float) -> None:
    g = np.random.default_rng(n)
    rate = np.mean([Effect(tuple(g.normal(0, 1, n))).p_value("within", margin) < 0.05 for _ in range(3000)])
    assert rate == pytest.approx(power.equivalence_power(n, 1.0, margin), abs=0.03)


def test_equivalence_margin_has_the_stated_power() -> None:
    for n in (3, 5, 10):
        margin = power.equivalence_margin(n, spread=0.4)
        assert power.equivalence_power(n, 0.4, margin) == pytest.approx(0.8, abs=1e-3)
    assert power.equivalence_margin(1, 0.4) == math.inf
    assert power.equivalence_power(1, 0.4, 9) == 0.0
    assert power.equivalence_power(5, 0.0, 1) == 1.0
