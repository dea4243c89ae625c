"""Every draw is a pure function of (seed, stream, step)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdp.utils import rng

keys = st.tuples(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["order", "augment", "mask", "weights/0.conv.weight", ""]),
    st.integers(0, 2**64 - 1),
)


def raw(seed: int, stream: str, step: int = 0, count: int = 4) -> list[int]:
    return rng.generator(seed, stream, step).bit_generator.random_raw(count).tolist()


@given(keys)
def test_the_same_key_draws_the_same_numbers(key):
    assert raw(*key) == raw(*key)


@given(keys, keys)
def test_two_keys_draw_the_same_numbers_only_if_they_are_equal(one, other):
    assert (raw(*one) == raw(*other)) == (one == other)


def test_the_order_of_draws_is_irrelevant():
    apart = [rng.generator(3, "order", step).random(5) for step in range(6)]
    generators = {step: rng.generator(3, "order", step) for step in reversed(range(6))}
    woven = {step: [] for step in range(6)}
    for _ in range(5):
        for step in (4, 0, 5, 2, 1, 3):
            woven[step].append(generators[step].random())
    np.testing.assert_array_equal(apart, [woven[step] for step in range(6)])


def test_numpys_global_state_is_neither_read_nor_changed():
    np.random.seed(0)  # noqa: NPY002 (the state under test)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (the state under test)
    first = raw(0, "mask")
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002 (the state under test)
    np.random.seed(1)  # noqa: NPY002 (the state under test)
    assert raw(0, "mask") == first


@pytest.mark.parametrize(
    ("one", "other"),
    [((0, "order", 0), (0, "order", 1)), ((0, "order"), (1, "order")), ((0, "order"), (0, "mask"))],
    ids=["neighbouring steps", "neighbouring seeds", "two streams"],
)
def test_neighbours_are_uncorrelated_at_every_lag(one, other):
    size = 20_000
    a, b = (rng.generator(*key).standard_normal(size) for key in (one, other))
    for lag in range(-3, 4):
        # The correlation of independent draws has a standard deviation of 1 / sqrt(size).
        assert abs(np.mean(a * np.roll(b, lag))) < 4 / np.sqrt(size)


def test_a_long_draw_does_not_overlap_the_next_step():
    # A counter that grew by one a step would show the next step's first block as this one's second.
    assert not set(raw(0, "order", 0, 4096)) & set(raw(0, "order", 1, 4096))


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="-1"):
        rng.generator(0, "order", -1)


def test_the_numbers_are_pinned():
    # Every split, initial weight and recorded run stands on these: a change here retrains everything.
    assert raw(0, "order", 0, 2) == [11506093443808085960, 11394801111786602359]
    assert raw(7, "mask", 1000, 2) == [16968855819051979704, 12712377885634914557]
    assert rng.generator(0, "order").permutation(8).tolist() == [3, 2, 1, 7, 4, 5, 6, 0]
