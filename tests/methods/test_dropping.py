"""Masks have the stated distribution."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rdp.methods.dropping import draw, drop_rates
from rdp.utils import rng

edge_rates = st.floats(1e-300, 1 - 2**-53) | st.sampled_from([0.0, 1e-300, 2**-53, 1 - 2**-53])


class TestDropRates:
    @pytest.mark.parametrize("units", [2, 3, 9, 54])
    @pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.999])
    def test_linear_rates_are_timms(self, units, rate):
        from timm.layers import calculate_drop_path_rates

        timms = calculate_drop_path_rates(rate, units)
        np.testing.assert_allclose(drop_rates(rate, units, "linear"), timms, rtol=1e-6)

    def test_linear_rates_start_at_exactly_0_and_end_at_exactly_the_rate(self):
        rates = drop_rates(0.3, 7, "linear")
        assert (rates[0], rates[-1]) == (0.0, 0.3)

    def test_uniform_rates_are_equal(self):
        assert drop_rates(0.3, 4, "uniform").tolist() == [0.3] * 4

    @pytest.mark.parametrize("schedule", ["linear", "uniform"])
    def test_a_single_unit_gets_the_whole_rate(self, schedule):
        assert drop_rates(0.3, 1, schedule).tolist() == [0.3]

    def test_a_network_without_units_is_refused(self):
        with pytest.raises(ValueError, match="0 units"):
            drop_rates(0.3, 0, "linear")


def law_of_redrawing(rates: list[float]) -> dict[tuple[bool, ...], float]:
    """The probability of each mask under rejection sampling, by enumeration."""
    weights = {}
    for mask in product([False, True], repeat=len(rates)):
        if any(mask):
            weights[mask] = np.prod([r if dropped else 1 - r for r, dropped in zip(rates, mask, strict=True)])
    total = sum(weights.values())
    return {mask: weight / total for mask, weight in weights.items()}


class TestDrawNonempty:
    @pytest.mark.parametrize(
        "rates",
        [
            [0.3],
            [0.0, 0.2],
            [0.0, 0.1, 0.2, 0.3],
            [0.5, 0.5, 0.5, 0.5],
            [0.9, 0.01, 0.6],
            [0.3, 0.0, 0.0, 0.3],
            [1e-9, 3e-9],
        ],
    )
    def test_masks_have_the_distribution_of_rejection_sampling(self, rates):
        draws = 20_000
        generator = rng.generator(0, "test/masks")
        counts = Counter(tuple(draw(np.array(rates), generator, nonempty=True).tolist()) for _ in range(draws))
        law = law_of_redrawing(rates)
        assert not {mask for mask in counts if law.get(mask, 0) == 0}
        # Rare masks are counted together: the chi-squared law wants five or more of each.
        common = [mask for mask, p in law.items() if p * draws >= 5]
        observed = [counts[mask] for mask in common]
        expected = [law[mask] * draws for mask in common]
        if sum(expected) < draws * (1 - 1e-6):
            observed.append(draws - sum(observed))
            expected.append(draws - sum(expected))
        if len(expected) == 1:
            assert observed == [draws]
        else:
            assert stats.chisquare(observed, np.array(expected) * draws / sum(expected)).pvalue > 1e-3

    @given(
        st.lists(
            st.floats(0, 1 - 2**-53, allow_subnormal=False) | st.sampled_from([0.0, 1e-300, 2**-53]),
            min_size=1,
            max_size=60,
        )
    )
    def test_a_unit_is_always_dropped_but_never_one_of_rate_0(self, listed):
        rates = np.array([rate if rate >= 1e-300 else 0.0 for rate in listed])
        generator = rng.generator(0, "test/edge")
        if not rates.any():
            with pytest.raises(ValueError, match="every rate is 0"):
                draw(rates, generator, nonempty=True)
            return
        for _ in range(20):
            dropped = draw(rates, generator, nonempty=True)
            assert dropped.any()
            assert not dropped[rates == 0].any()


class TestDrawUnconditionally:
    @pytest.mark.parametrize("rates", [[0.3], [0.0, 0.2, 1e-9], [0.5, 0.5, 0.5], [0.9, 0.01, 0.6]])
    def test_units_are_independent_bernoulli_variables(self, rates):
        draws, generator = 20_000, rng.generator(0, "test/masks")
        dropped = np.stack([draw(np.array(rates), generator, nonempty=False) for _ in range(draws)])
        law = law_of_redrawing(rates)
        empty = np.prod([1 - rate for rate in rates])
        for mask in product([False, True], repeat=len(rates)):
            p = law[mask] * (1 - empty) if any(mask) else empty
            share = (dropped == mask).all(1).mean()
            assert abs(share - p) <= 4.5 * np.sqrt(p * (1 - p) / draws) + 1e-12, mask

    def test_rates_of_0_drop_nothing(self):
        assert not draw(np.zeros(5), rng.generator(0, "test/masks"), nonempty=False).any()

    @given(st.lists(edge_rates, min_size=1, max_size=60))
    def test_units_of_rate_0_are_never_dropped(self, listed):
        rates, generator = np.array(listed), rng.generator(0, "test/edge")
        for _ in range(20):
            assert not draw(rates, generator, nonempty=False)[rates == 0].any()

    def test_redrawing_changes_only_units_up_to_the_first_dropped_one(self):
        rates = np.full(6, 0.3)
        for i in range(500):
            free, forced = (draw(rates, rng.generator(0, "mask", i), nonempty=nonempty) for nonempty in (False, True))
            after = int(forced.argmax()) + 1
            np.testing.assert_array_equal(free[after:], forced[after:])
