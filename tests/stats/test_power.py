"""Power: against simulation, and against what the design of the studies counted on."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from rdp.stats import Effect, power


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_smallest_effect_is_found_as_often_as_is_said(n: int) -> None:
    effect = power.detectable(n, spread=1.0)
    g = np.random.default_rng(n)
    found = np.mean([Effect(tuple(g.normal(effect, 1.0, n))).p("above", 0.0) < 0.05 for _ in range(2000)])
    assert found == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_it_is_what_statsmodels_has(n: int) -> None:
    expected = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8, alternative="two-sided")
    assert power.detectable(n, spread=1.0) == pytest.approx(expected, rel=1e-3)


def test_it_shrinks_with_seeds_and_grows_with_spread() -> None:
    sizes = [power.detectable(n, 1.0) for n in (3, 5, 10, 30)]
    assert sizes == sorted(sizes, reverse=True)
    assert power.detectable(5, 2.0) == pytest.approx(2 * sizes[1])
    assert power.detectable(1, 1.0) == math.inf
    assert power.detectable(5, 0.0) == 0.0


@pytest.mark.parametrize(("n", "expected"), [(5, 0.29), (10, 0.80)])
def test_a_margin_of_one_spread_needs_ten_seeds(n: int, expected: float) -> None:
    assert power.of_equivalence(n, spread=1.0, margin=1.0) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("n", "margin"), [(3, 2.0), (5, 1.0), (10, 0.7)])
def test_equivalence_is_found_as_often_as_is_said(n: int, margin: float) -> None:
    g = np.random.default_rng(n)
    found = np.mean([Effect(tuple(g.normal(0, 1, n))).p("within", margin) < 0.05 for _ in range(3000)])
    assert found == pytest.approx(power.of_equivalence(n, 1.0, margin), abs=0.03)


def test_the_smallest_margin_has_that_power() -> None:
    for n in (3, 5, 10):
        margin = power.within(n, spread=0.4)
        assert power.of_equivalence(n, 0.4, margin) == pytest.approx(0.8, abs=1e-3)
    assert power.within(1, 0.4) == math.inf
    assert power.of_equivalence(1, 0.4, 9) == 0.0
    assert power.of_equivalence(5, 0.0, 1) == 1.0
