"""Effects: on cases worked out by hand, and by simulation at the seed counts in use."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from rdp.stats import Effect, Measured, of_predictions

SEEDS = [3, 5, 10]


def error_of_share(share: float, draws: int) -> float:
    """Three standard errors of a simulated share."""
    return 3 * math.sqrt(share * (1 - share) / draws)


class TestByHand:
    def test_a_t_test_is_scipys(self) -> None:
        values = (0.3, 1.1, -0.2, 0.9, 0.4)
        found = Effect(values)
        assert found.p("above", 0.1) == pytest.approx(stats.ttest_1samp(values, 0.1).pvalue)
        assert found.p("below", 0.9) == pytest.approx(stats.ttest_1samp(values, 0.9).pvalue)
        assert found.p("below", 0.1) == found.p("above", 0.9) == 1.0
        assert found.interval() == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.95))

    def test_a_direction_is_found_where_the_interval_lies_on_that_side(self) -> None:
        found = Effect((0.3, 1.1, -0.2, 0.9, 0.4))
        low, high = found.interval()
        assert found.p("above", low - 1e-6) < 0.05 < found.p("above", low + 1e-6)
        assert found.p("below", high + 1e-6) < 0.05 < found.p("below", high - 1e-6)

    def test_equivalence_is_the_larger_of_two_one_sided_tests(self) -> None:
        values = (0.1, 0.3, -0.1, 0.2)
        sides = [stats.ttest_1samp(values, at, alternative=a).pvalue for at, a in ((-0.5, "greater"), (0.5, "less"))]
        assert Effect(values).p("within", 0.5) == pytest.approx(max(sides))

    def test_it_is_the_90_percent_interval_within_the_margin(self) -> None:
        found = Effect((0.1, 0.3, -0.1, 0.2))
        reach = max(map(abs, found.interval(0.90)))
        assert found.p("within", reach * 1.001) < 0.05 < found.p("within", reach * 0.999)

    @pytest.mark.parametrize("direction", ["above", "below", "within"])
    @pytest.mark.parametrize("values", [(), (5.0,)])
    def test_too_few_seeds_show_nothing(self, direction, values) -> None:
        found = Effect(values)
        assert found.p(direction, 1e9) == 1.0
        assert math.isnan(found.error)
        assert all(map(math.isnan, found.interval()))

    def test_seeds_all_alike_without_a_test_set(self) -> None:
        assert Effect((2.0, 2.0)).p("above", 1.0) == 0.0
        assert Effect((2.0, 2.0)).p("above", 2.0) == 1.0
        assert Effect((2.0, 2.0)).interval() == (2.0, 2.0)

    def test_a_missing_value_is_refused(self) -> None:
        with pytest.raises(ValueError, match="missing"):
            Effect((1.0, math.nan))

    def test_signs_are_all_counted(self) -> None:
        values = (3.0, 1.0, 2.0, -0.5)
        means = [abs(np.dot(signs, values)) for signs in itertools.product([-1, 1], repeat=4)]
        assert Effect(values).sign_flip() == np.mean([mean >= sum(values) for mean in means])

    def test_five_seeds_of_one_sign_give_its_smallest_p(self) -> None:
        assert Effect((1.0, 2.0, 3.0, 4.0, 5.0)).sign_flip() == 0.0625
        assert Effect((1.0, 2.0, 3.0, 4.0, 5.0)).sign_flip(margin=3.0) == 1.0

    def test_many_seeds_are_drawn_and_come_close(self) -> None:
        values = tuple(np.random.default_rng(3).normal(0.5, 1, 17))
        all_signs = np.array(list(itertools.product([-1, 1], repeat=17))) @ values
        exact = (np.abs(all_signs) >= abs(sum(values)) - 1e-12).mean()
        assert Effect(values).sign_flip() == pytest.approx(exact, abs=error_of_share(exact, 2**16))
        assert Effect(values).sign_flip() == Effect(values).sign_flip()

    def test_the_size_has_hedges_correction(self) -> None:
        values = (1.0, 2.0, 3.0, 6.0)
        # J(3) = 0.7236, as tabled by Hedges
        assert Effect(values).size == pytest.approx(0.7236 * 3.0 / np.std(values, ddof=1), rel=1e-3)
        assert math.isnan(Effect((1.0, 1.0)).size)


class TestOfPredictions:
    def test_examples_that_differ_alike_in_every_seed_leave_their_sampling_error(self) -> None:
        right, other = np.ones((4, 100), bool), np.ones((4, 100), bool)
        other[:, :10] = False
        found = of_predictions(right, other)
        assert found.mean == pytest.approx(0.1)
        assert found.spread == pytest.approx(0)
        # The error of a share of 0.1 among 100, as if there were one seed.
        assert found.error == pytest.approx(math.sqrt(0.1 * 0.9 / 99))

    def test_with_one_test_set_seeds_alone_would_say_too_much(self) -> None:
        right, other = np.ones((4, 100), bool), np.ones((4, 100), bool)
        other[:, :2] = False
        other[0, 2] = False
        found = of_predictions(right, other)
        assert found.p("above", 0.0) > 0.05
        assert Effect(found.values).p("above", 0.0) < 0.01

    def test_no_prediction_that_differs_is_known_to_an_example(self) -> None:
        same = np.ones((10, 50), bool)
        found = of_predictions(same, same)
        assert found.error == 1 / 50
        assert found.p("within", 0.01) > 0.05  # fewer than one example
        assert found.p("within", 0.2) < 0.05

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(ValueError, match=r"\(3, 4\), \(3, 5\)"):
            of_predictions(np.ones((3, 4)), np.ones((3, 5)))


LAYOUTS = {"seeds": (0.02, 0.0), "examples": (0.0, 0.25), "both": (0.02, 0.25), "neither": (0.0, 0.0)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", SEEDS)
def test_seeds_and_examples_in_any_proportion_are_covered(n: int, layout: str) -> None:
    """Coverage near nominal, and no more false findings than the level, of differences drawn around a true mean."""
    draws, m, margin = 1000, 200, 0.02
    seeds, examples = LAYOUTS[layout]
    g = np.random.default_rng([n, len(layout)])
    covered = above = equivalent = 0
    for _ in range(draws):
        d = g.normal(0, seeds, (n, 1)) + g.normal(0, examples, (1, m)) + g.normal(0, 0.2, (n, m))
        null, edge = of_predictions(d, np.zeros_like(d)), of_predictions(d + margin, np.zeros_like(d))
        low, high = null.interval()
        covered += low <= 0 <= high
        above += min(null.p("above", 0.0), null.p("below", 0.0)) < 0.05
        equivalent += edge.p("within", margin) < 0.05
    assert covered / draws >= 0.95 - 0.01 - error_of_share(0.95, draws)
    if layout != "neither":  # where one example's share is more than all else there is
        assert covered / draws <= 0.95 + 0.01 + error_of_share(0.95, draws)
    assert above / draws <= 0.05 + 0.01 + error_of_share(0.05, draws)
    assert equivalent / draws <= 0.05 + error_of_share(0.05, draws)


@pytest.mark.parametrize("n", SEEDS)
def test_of_networks_that_are_right_or_wrong(n: int) -> None:
    """The same of predictions, drawn from two methods of equal accuracy whose examples are hard for both alike."""
    draws, m = 1000, 300
    g, covered, found = np.random.default_rng(n), 0, 0
    for _ in range(draws):
        hard = g.beta(8, 1, (1, m))  # the chance of being right; each method's own departure from it beside
        first, second = (g.random((n, m)) < np.clip(hard + g.normal(0, 0.1, (1, m)), 0, 1) for _ in range(2))
        effect = of_predictions(first, second)
        low, high = effect.interval()
        covered += low <= 0 <= high
        found += min(effect.p("above", 0.0), effect.p("below", 0.0)) < 0.05
    assert covered / draws == pytest.approx(0.95, abs=0.015 + error_of_share(0.95, draws))
    assert found / draws <= 0.05 + 0.01 + error_of_share(0.05, draws)


@pytest.mark.parametrize("n", SEEDS)
def test_the_sign_flip_test_finds_nothing_too_often(n: int) -> None:
    draws = 1000
    g = np.random.default_rng(n)
    p = np.array([Effect(tuple(g.standard_t(3, n))).sign_flip() for _ in range(draws)])
    for level in (0.05, 0.25, 0.5):
        assert (p <= level).mean() <= level + error_of_share(level, draws)


@pytest.mark.parametrize("n", SEEDS)
def test_equivalence_is_never_declared_from_lack_of_data(n: int) -> None:
    """However wide the spread, methods a margin apart are rarely called equal; the wider, the more rarely."""
    g, rates = np.random.default_rng(n), []
    for spread in (0.2, 1.0, 5.0):
        effects = [Effect(tuple(g.normal(1.0, spread, n))) for _ in range(1000)]
        rates.append(np.mean([effect.p("within", 1.0) < 0.05 for effect in effects]))
    assert max(rates) <= 0.05 + error_of_share(0.05, 1000)
    assert rates[-1] <= 0.01


class TestMeasured:
    """What is known by a number and its interval, such as a median over rounds."""

    FOUND = Measured(centre=0.12, low=0.08, high=0.16, rounds=60)

    def test_its_interval_is_the_one_it_was_given(self) -> None:
        assert self.FOUND.interval() == (0.08, 0.16)
        assert (self.FOUND.n, self.FOUND.mean, self.FOUND.known) == (60, 0.12, True)

    def test_it_is_decided_where_its_interval_ends(self) -> None:
        assert self.FOUND.p("above", 0.079) < 0.05 < self.FOUND.p("above", 0.081)
        assert self.FOUND.p("below", 0.161) < 0.05 < self.FOUND.p("below", 0.159)

    def test_each_side_of_a_lopsided_interval_counts_by_itself(self) -> None:
        found = Measured(centre=0.010, low=-0.001, high=0.012, rounds=60)
        assert found.p("above", 0.0) > 0.05 > found.p("below", 0.0121)
        assert found.p("within", 0.0125) < 0.05

    def test_rounds_have_no_signs_to_flip(self) -> None:
        assert math.isnan(self.FOUND.sign_flip())
