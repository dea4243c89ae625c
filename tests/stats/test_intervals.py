"""Means, intervals and paired differences against values worked out by hand."""

import math

import numpy as np
import pytest

from rdp.stats import mean_interval, paired_difference


def test_the_interval_of_three_values_is_the_textbook_one() -> None:
    # mean 2, s = 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt(3)
    estimate = mean_interval([1.0, 2.0, 3.0])
    assert (estimate.mean, estimate.n) == (2.0, 3)
    assert estimate.high - estimate.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert estimate.mean - estimate.low == pytest.approx(estimate.high - estimate.mean)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    one, none = mean_interval([0.5]), mean_interval([])
    assert one.mean == 0.5
    assert not one.has_interval
    assert not one.excludes(0.0)
    assert none.n == 0
    assert math.isnan(none.mean)


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(ValueError, match="missing"):
        mean_interval([1.0, math.nan])


def test_differences_are_paired_by_the_seeds_that_both_have() -> None:
    estimate = paired_difference({0: 3.0, 1: 5.0, 2: 9.0}, {0: 1.0, 1: 3.0, 7: 100.0})
    assert (estimate.mean, estimate.n) == (2.0, 2)
    assert estimate.low == estimate.high == 2.0  # the same difference in both pairs


def test_pairing_cancels_what_seeds_share() -> None:
    shared = {seed: 10.0 * seed for seed in range(5)}
    better = {seed: value + 1 + 0.01 * seed for seed, value in shared.items()}
    assert paired_difference(better, shared).excludes(0)
    assert mean_interval(list(shared.values())).low < mean_interval(list(better.values())).mean


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_covers_the_mean_as_often_as_it_says(n: int) -> None:
    draws = np.random.default_rng(0).normal(1.0, 2.0, (4000, n))
    covered = sum(not mean_interval(row).excludes(1.0) for row in draws) / len(draws)
    assert covered == pytest.approx(0.95, abs=0.012)  # three and a half standard errors
