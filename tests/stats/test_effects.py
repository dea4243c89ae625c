"""Effects on hand-computed cases, and by simulation at the seed counts in use."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from rdp.stats import Effect, IntervalEffect, accuracy_difference

SEEDS = [3, 5, 10]


def error_of_share(share: float, draws: int) -> float:
    """Three standard errors of a simulated share."""
    return 3 * math.sqrt(share * (1 - share) / draws)


class TestByHand:
    def test_t_test_matches_scipy(self) -> None:
        values = (0.3, 1.1, -0.2, 0.9, 0.4)
        effect = Effect(values)
        assert effect.p_value("above", 0.1) == pytest.approx(stats.ttest_1samp(values, 0.1).pvalue)
        assert effect.p_value("below", 0.9) == pytest.approx(stats.ttest_1samp(values, 0.9).pvalue)
        assert effect.p_value("below", 0.1) == effect.p_value("above", 0.9) == 1.0
        assert effect.interval() == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.95))

    def test_p_is_below_the_level_where_the_interval_lies_on_that_side(self) -> None:
        effect = Effect((0.3, 1.1, -0.2, 0.9, 0.4))
        low, high = effect.interval()
        assert effect.p_value("above", low - 1e-6) < 0.05 < effect.p_value("above", low + 1e-6)
        assert effect.p_value("below", high + 1e-6) < 0.05 < effect.p_value("below", high - 1e-6)

    def test_equivalence_is_the_larger_of_two_one_sided_tests(self) -> None:
        values = (0.1, 0.3, -0.1, 0.2)
        sides = [stats.ttest_1samp(values, at, alternative=a).pvalue for at, a in ((-0.5, "greater"), (0.5, "less"))]
        assert Effect(values).p_value("within", 0.5) == pytest.approx(max(sides))

    def test_equivalence_holds_where_the_90_percent_interval_lies_within_the_margin(self) -> None:
        effect = Effect((0.1, 0.3, -0.1, 0.2))
        reach = max(map(abs, effect.interval(0.90)))
        assert effect.p_value("within", reach * 1.001) < 0.05 < effect.p_value("within", reach * 0.999)

    @pytest.mark.parametrize("direction", ["above", "below", "within"])
    @pytest.mark.parametrize("values", [(), (5.0,)])
    def test_fewer_than_two_seeds_give_p_1_and_no_interval(self, direction, values) -> None:
        effect = Effect(values)
        assert effect.p_value(direction, 1e9) == 1.0
        assert math.isnan(effect.standard_error)
        assert all(map(math.isnan, effect.interval()))

    def test_equal_seeds_without_a_test_set_have_a_zero_width_interval(self) -> None:
        assert Effect((2.0, 2.0)).p_value("above", 1.0) == 0.0
        assert Effect((2.0, 2.0)).p_value("above", 2.0) == 1.0
        assert Effect((2.0, 2.0)).interval() == (2.0, 2.0)

    def test_a_missing_value_is_refused(self) -> None:
        with pytest.raises(ValueError, match="missing"):
            Effect((1.0, math.nan))

    def test_sign_flip_counts_all_signs(self) -> None:
        values = (3.0, 1.0, 2.0, -0.5)
        means = [abs(np.dot(signs, values)) for signs in itertools.product([-1, 1], repeat=4)]
        assert Effect(values).sign_flip_p_value() == np.mean([mean >= sum(values) for mean in means])

    def test_sign_flip_of_five_seeds_is_at_least_0_0625(self) -> None:
        assert Effect((1.0, 2.0, 3.0, 4.0, 5.0)).sign_flip_p_value() == 0.0625
        assert Effect((1.0, 2.0, 3.0, 4.0, 5.0)).sign_flip_p_value(margin=3.0) == 1.0

    def test_sign_flip_of_many_seeds_samples_signs(self) -> None:
        values = tuple(np.random.default_rng(3).normal(0.5, 1, 17))
        all_signs = np.array(list(itertools.product([-1, 1], repeat=17))) @ values
        exact = (np.abs(all_signs) >= abs(sum(values)) - 1e-12).mean()
        assert Effect(values).sign_flip_p_value() == pytest.approx(exact, abs=error_of_share(exact, 2**16))
        assert Effect(values).sign_flip_p_value() == Effect(values).sign_flip_p_value()

    def test_hedges_g_has_the_small_sample_correction(self) -> None:
        values = (1.0, 2.0, 3.0, 6.0)
        # J(3) = 0.7236, as tabled by Hedges
        assert Effect(values).hedges_g == pytest.approx(0.7236 * 3.0 / np.std(values, ddof=1), rel=1e-3)
        assert math.isnan(Effect((1.0, 1.0)).hedges_g)


class TestAccuracyDifference:
    def test_examples_that_differ_in_every_seed_give_the_sampling_error_of_the_test_set(self) -> None:
        right, other = np.ones((4, 100), bool), np.ones((4, 100), bool)
        other[:, :10] = False
        effect = accuracy_difference(right, other)
        assert effect.mean == pytest.approx(0.1)
        assert effect.spread == pytest.approx(0)
        # The error of a share of 0.1 among 100, as if there were one seed.
        assert effect.standard_error == pytest.approx(math.sqrt(0.1 * 0.9 / 99))

    def test_seeds_without_the_test_set_understate_the_error(self) -> None:
        right, other = np.ones((4, 100), bool), np.ones((4, 100), bool)
        other[:, :2] = False
        other[0, 2] = False
        effect = accuracy_difference(right, other)
        assert effect.p_value("above", 0.0) > 0.05
        assert Effect(effect.values).p_value("above", 0.0) < 0.01

    def test_equal_predictions_have_the_error_of_one_example(self) -> None:
        same = np.ones((10, 50), bool)
        effect = accuracy_difference(same, same)
        assert effect.standard_error == 1 / 50
        assert effect.p_value("within", 0.01) > 0.05  # fewer than one example
        assert effect.p_value("within", 0.2) < 0.05

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(ValueError, match=r"\(3, 4\), \(3, 5\)"):
            accuracy_difference(np.ones((3, 4)), np.ones((3, 5)))


LAYOUTS = {"seeds": (0.02, 0.0), "examples": (0.0, 0.25), "both": (0.02, 0.25), "neither": (0.0, 0.0)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.slow
def test_interval_covers_for_any_ratio_of_seed_and_example_variance(n: int, layout: str) -> None:
    """Coverage is near nominal and false positives stay at the level, for differences around a true mean."""
    draws, m, margin = 1000, 200, 0.02
    seeds, examples = LAYOUTS[layout]
    g = np.random.default_rng([n, len(layout)])
    covered = above = equivalent = 0
    for _ in range(draws):
        d = g.normal(0, seeds, (n, 1)) + g.normal(0, examples, (1, m)) + g.normal(0, 0.2, (n, m))
        null, edge = accuracy_difference(d, np.zeros_like(d)), accuracy_difference(d + margin, np.zeros_like(d))
        low, high = null.interval()
        covered += low <= 0 <= high
        above += min(null.p_value("above", 0.0), null.p_value("below", 0.0)) < 0.05
        equivalent += edge.p_value("within", margin) < 0.05
    assert covered / draws >= 0.95 - 0.01 - error_of_share(0.95, draws)
    if layout != "neither":  # where the minimum error of one example dominates
        assert covered / draws <= 0.95 + 0.01 + error_of_share(0.95, draws)
    assert above / draws <= 0.05 + 0.01 + error_of_share(0.05, draws)
    assert equivalent / draws <= 0.05 + error_of_share(0.05, draws)


@pytest.mark.parametrize("n", SEEDS)
def test_interval_covers_for_binary_predictions(n: int) -> None:
    """The same for predictions of two methods of equal accuracy that share hard examples."""
    draws, m = 1000, 300
    g, covered, rejected = np.random.default_rng(n), 0, 0
    for _ in range(draws):
        hard = g.beta(8, 1, (1, m))  # probability of a correct prediction, before each method's own deviation
        first, second = (g.random((n, m)) < np.clip(hard + g.normal(0, 0.1, (1, m)), 0, 1) for _ in range(2))
        effect = accuracy_difference(first, second)
        low, high = effect.interval()
        covered += low <= 0 <= high
        rejected += min(effect.p_value("above", 0.0), effect.p_value("below", 0.0)) < 0.05
    assert covered / draws == pytest.approx(0.95, abs=0.015 + error_of_share(0.95, draws))
    assert rejected / draws <= 0.05 + 0.01 + error_of_share(0.05, draws)


@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.slow
def test_sign_flip_keeps_its_level(n: int) -> None:
    draws = 1000
    g = np.random.default_rng(n)
    p = np.array([Effect(tuple(g.standard_t(3, n))).sign_flip_p_value() for _ in range(draws)])
    for level in (0.05, 0.25, 0.5):
        assert (p <= level).mean() <= level + error_of_share(level, draws)


@pytest.mark.parametrize("n", SEEDS)
def test_equivalence_is_not_declared_from_lack_of_data(n: int) -> None:
    """Methods a margin apart are rarely called equal at any spread, and more rarely at a wider one."""
    g, rates = np.random.default_rng(n), []
    for spread in (0.2, 1.0, 5.0):
        effects = [Effect(tuple(g.normal(1.0, spread, n))) for _ in range(1000)]
        rates.append(np.mean([effect.p_value("within", 1.0) < 0.05 for effect in effects]))
    assert max(rates) <= 0.05 + error_of_share(0.05, 1000)
    assert rates[-1] <= 0.01


class TestMeasured:
    """An effect given by an estimate and its interval."""

    EFFECT = IntervalEffect(centre=0.12, low=0.08, high=0.16, rounds=60)

    def test_interval_is_the_given_one(self) -> None:
        assert self.EFFECT.interval() == (0.08, 0.16)
        assert (self.EFFECT.n, self.EFFECT.mean, self.EFFECT.has_spread) == (60, 0.12, True)

    def test_p_crosses_the_level_at_the_ends_of_the_interval(self) -> None:
        assert self.EFFECT.p_value("above", 0.079) < 0.05 < self.EFFECT.p_value("above", 0.081)
        assert self.EFFECT.p_value("below", 0.161) < 0.05 < self.EFFECT.p_value("below", 0.159)

    def test_sides_of_an_asymmetric_interval_have_their_own_error(self) -> None:
        effect = IntervalEffect(centre=0.010, low=-0.001, high=0.012, rounds=60)
        assert effect.p_value("above", 0.0) > 0.05 > effect.p_value("below", 0.0121)
        assert effect.p_value("within", 0.0125) < 0.05

    def test_sign_flip_is_nan(self) -> None:
        assert math.isnan(self.EFFECT.sign_flip_p_value())
