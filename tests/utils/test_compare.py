"""Comparison of values, tables and files."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdp.utils import compare
from rdp.utils.compare import Difference


def pairs(left: object, right: object, **options: set[str]) -> list[tuple]:
    return [(d.path, d.left, d.right) for d in compare.differences(left, right, **options)]


def test_leaves_are_named_by_their_paths() -> None:
    left = {"a": 1, "b": {"c": [1, 2, {"d": None}]}, "gone": 0}
    right = {"b": {"c": [1, 3, {"d": 4.0}]}, "a": 1, "new": "x"}
    assert pairs(left, right) == [
        (("b", "c", 2), 2, 3),
        (("b", "c", 3, "d"), None, 4.0),
        (("gone",), 0, None),
        (("new",), None, "x"),
    ]
    assert pairs(left, right, ignore={"c", "new"}) == [(("gone",), 0, None)]
    assert Difference(("b", "c", 3, "d"), 1, 2).name == "b, c 3, d"
    assert Difference((2, "b"), 1, 2).name == "2, b"
    assert Difference((), 1, 2).name == "value"
    assert Difference(("a",), 0.5, None).describe("the records give") == "a: 0.5; the records give None"


def test_named_entries_of_a_list_are_called_by_name() -> None:
    assert pairs([{"name": "x", "a": 1}], [{"name": "x", "a": 2}]) == [(("x", "a"), 1, 2)]


def test_lists_of_unequal_length_are_one_difference() -> None:
    assert pairs({"a": [1, 2]}, {"a": [2]}) == [(("a",), [1, 2], [2])]
    assert [compare.shorten(entries) for entries in ([1, 2], [1])] == ["2 entries", "1 entry"]
    assert pairs({"a": [[1], [1, 2]]}, {"a": [[1]]}) == [(("a",), [[1], [1, 2]], [[1]])]
    assert pairs({"a": [1]}, {"a": {"b": 1}}) == [(("a",), [1], {"b": 1})]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
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
def test_values_are_compared_to_the_last_digit(left: object, right: object, expected: bool) -> None:
    assert compare.equal(left, right) is expected
    assert compare.equal(right, left) is expected


def test_a_tolerance_is_absolute() -> None:
    assert compare.equal(0.5, 0.6, 0.125)
    assert not compare.equal(0.5, 0.75, 0.125)
    assert not compare.equal(0.5, None, 1.0)


def test_a_change_is_a_share_of_the_largest_magnitude() -> None:
    left = np.array([1.0, -4.0, math.nan, math.nan, math.inf, 2.0])
    right = np.array([1.0, -3.0, math.nan, 0.0, math.inf, math.inf])
    assert compare.relative_change(left, right).tolist() == [0.0, 0.25, 0.0, 1.0, 0.0, 1.0]
    assert compare.relative_change(np.array([0.0]), np.array([0.0])).tolist() == [0.0]


def test_tables_differ_in_columns_rows_or_cells() -> None:
    left = pd.DataFrame({"run": ["a", "b"], "x": [1.0, None], "by": ["m", "n"]})
    assert list(compare.table_differences(left, left.assign(by="o"), ignore={"by"})) == []
    changed = left.assign(x=[1.0, 2.0])
    (cell,) = compare.table_differences(left, changed)
    assert cell.path == ("b", "x")
    assert cell.right == 2.0
    (cell,) = compare.table_differences(left.drop(columns="run"), changed.drop(columns="run"))
    assert cell.path == ("row 2", "x")
    assert list(compare.table_differences(left, left[:1])) == [Difference(("rows",), 2, 1)]
    columns = compare.table_differences(left, left.rename(columns={"x": "y"}))
    assert list(columns) == [Difference(("further columns",), "x", "y")]
    (order,) = compare.table_differences(left, left[["x", "run", "by"]])
    assert order.name == "order of columns"


def test_a_list_in_a_cell_equals_nothing() -> None:
    assert list(compare.table_differences(pd.DataFrame({"a": [[1]]}), pd.DataFrame({"a": [1]})))


def test_texts_are_compared_by_line(tmp_path: Path) -> None:
    left, right = tmp_path / "a.html", tmp_path / "b.html"
    left.write_text("same\nvalue 1\nsame")
    right.write_text("same\nvalue 2\nsame")
    assert compare.file_differences(left, left, "the records give") == []
    assert compare.file_differences(left, right, "the records give") == [
        "line 2: …value 1…; the records give …value 2…"
    ]


def test_the_seal_counts_only_where_all_else_is_equal(tmp_path: Path) -> None:
    left, right = tmp_path / "a.json", tmp_path / "b.json"
    left.write_text('{"a": 1, "seal": "x"}')
    right.write_text('{"a": 2, "seal": "y"}')
    assert compare.file_differences(left, right, "it is") == ["a: 1; it is 2"]
    right.write_text('{"a": 1, "seal": "y"}')
    assert compare.file_differences(left, right, "it is") == ["seal: x; it is y"]
    right.write_text('{"a":1, "seal": "x"}')
    assert compare.file_differences(left, right, "it is") == [
        "equal content, but other bytes: not written by this checkout"
    ]


def test_arbitrary_bytes_are_compared(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name, content in {"a.csv": "a,b\n1,2\n", "a.json": '{"a": 1}', "a.html": "<p>", "a.png": "p"}.items():
        (other / name).write_text(content)
        for garbage in (b"", b'\xff\xfe\0,"\r\n', b"[" * 100_000):
            (tmp_path / name).write_bytes(garbage)
            assert compare.file_differences(tmp_path / name, other / name, "expected")
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(tmp_path / name)
        assert compare.file_differences(tmp_path / name, other / name, "expected")[0].startswith("cannot be read: ")


def test_many_differences_are_counted() -> None:
    changes = compare.differences({str(i): i for i in range(7)}, {})
    lines = compare.describe(changes, "gone:")
    assert len(lines) == 6
    assert lines[-1] == "and 2 more differences"


def test_long_values_are_shortened() -> None:
    assert compare.shorten("x" * 200) == "x" * 80 + "…"
    assert compare.shorten(0.1 + 0.2) == "0.30000000000000004"
