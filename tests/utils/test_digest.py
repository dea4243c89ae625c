"""Digests depend on content only."""

import numpy as np
import pytest

from rdp.utils import digest


def test_digests_of_arrays_depend_on_names_types_shapes_and_contents_but_not_on_order():
    arrays = {"a": np.arange(4, dtype=np.int16), "b": np.zeros((2, 3), np.float32)}
    first = digest.of_arrays(arrays)
    assert digest.of_arrays(dict(reversed(arrays.items()))) == first
    assert digest.of_arrays({"a": np.arange(8, dtype=np.int16)[::2] // 2, "b": arrays["b"]}) == first
    for change in (
        {"a": arrays["a"].astype(np.int32)},
        {"a": arrays["a"].view(np.uint16)},
        {"a": arrays["a"].reshape(2, 2)},
        {"a": arrays["a"][::-1]},
        {"c": arrays["a"]},
        {"b": -arrays["b"]},
    ):
        assert digest.of_arrays(arrays | change) != first, change


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_digests_of_nonfinite_numbers_are_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        digest.of(value)
