"""Over cells, and over the tests of a claim."""

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from rdp.stats import holm, interquartile_mean, probability_of_improvement


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never falling.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("n", [1, 2, 7])
def test_holm_is_that_of_statsmodels(n: int) -> None:
    p = np.random.default_rng(n).random(n) ** 4
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_keeps_the_chance_of_any_false_finding() -> None:
    g = np.random.default_rng(0)
    assert np.mean([min(holm(g.random(8))) < 0.05 for _ in range(2000)]) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_the_interquartile_mean_leaves_out_a_quarter_on_either_side() -> None:
    estimate = interquartile_mean([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 100.0]])
    assert estimate.mean == np.mean([2.0, 3.0, 4.0, 5.0])
    assert estimate.low < estimate.mean < estimate.high
    assert estimate.n == 8


def test_improvement_by_hand() -> None:
    first, second = [[1.0, 3.0], [5.0, 5.0]], [[2.0, 2.0], [5.0, 5.0]]
    assert probability_of_improvement(first, second).mean == 0.5
    assert probability_of_improvement([[3.0, 4.0]], [[1.0, 2.0]]).mean == 1.0
    assert probability_of_improvement([[1.0]], [[1.0, 0.0, 3.0, 3.0]]).mean == pytest.approx(1.5 / 4)


def test_cells_without_runs_and_cells_without_partners() -> None:
    assert math.isnan(interquartile_mean([]).mean)
    assert math.isnan(probability_of_improvement([[]], [[1.0]]).mean)
    with pytest.raises(ValueError, match="need the same cells; got 1 and 2"):
        probability_of_improvement([[1.0]], [[1.0], [2.0]])


def test_intervals_are_the_same_in_every_run() -> None:
    cells = [[0.1, 0.5, 0.2], [0.7, 0.4, 0.4]]
    assert interquartile_mean(cells) == interquartile_mean(cells)


def test_the_interval_of_an_improvement_covers_it() -> None:
    g, true, covered, draws = np.random.default_rng(1), 0.76025, 0, 150  # P(N(1, 1) > N(0, 1)), independent
    for _ in range(draws):
        estimate = probability_of_improvement(g.normal(1, 1, (4, 10)).tolist(), g.normal(0, 1, (4, 10)).tolist())
        covered += estimate.low <= true <= estimate.high
    assert covered / draws >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)
