"""Where two JSON values differ."""

import math

import numpy as np
import pytest

from rdp.utils import compare


def test_leaves_are_named_by_their_paths() -> None:
    one = {"a": 1, "b": {"c": [1, 2, {"d": None}]}, "gone": 0}
    other = {"b": {"c": [1, 3, {"d": 4.0}]}, "a": 1, "new": "x"}
    assert list(compare.differing(one, other)) == [
        (("b", "c", 2), 2, 3),
        (("b", "c", 3, "d"), None, 4.0),
        (("gone",), 0, None),
        (("new",), None, "x"),
    ]
    assert compare.named(("b", "c", 3, "d")) == "b, c 3, d"
    assert compare.named((2, "b")) == "2, b"
    assert compare.named(()) == "all of it"


def test_lists_of_unequal_length_are_one_difference() -> None:
    assert list(compare.differing({"a": [1, 2]}, {"a": [2]})) == [(("a",), [1, 2], [2])]
    assert [compare.shown(found) for found in ([1, 2], [1])] == ["2 entries", "1 entry"]
    assert list(compare.differing({"a": [[1], [1, 2]]}, {"a": [[1]]})) == [(("a",), [[1], [1, 2]], [[1]])]
    assert list(compare.differing({"a": [1]}, {"a": {"b": 1}})) == [(("a",), [1], {"b": 1})]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (None, math.nan, True),
        (0.1 + 0.2, 0.3, False),
        (1, 1.0, True),
        (np.float32(1), 1, True),
        (True, 1, False),
        (np.True_, True, True),
        ("1", 1, False),
        (None, 0, False),
        ([1], 1, False),
        ([[1], [1, 2]], [1], False),
        ({"a": 1}, {"a": 1}, False),
        (np.array([1, 2]), np.array([1, 2]), False),
    ],
)
def test_values_are_the_same_to_the_last_digit(one: object, other: object, alike: bool) -> None:
    assert compare.same(one, other) is alike
    assert compare.same(other, one) is alike


def test_long_values_are_cut() -> None:
    assert compare.shown("x" * 200) == "x" * 80 + "…"
    assert compare.shown(0.1 + 0.2) == "0.30000000000000004"
