"""Comparison of the data behind figures."""

import pandas as pd
import pytest

from rdp.diffs import figures


def compare_one(left: pd.DataFrame, right: pd.DataFrame) -> dict:
    (row,) = figures.compare({"it": left}, {"it": right})
    return row


TABLE = pd.DataFrame({"method": ["a", "a", "b"], "epoch": [1, 2, 1], "loss": [2.0, 1.0, 4.0], "n": [5, 5, 5]})


def test_equal_data_are_the_same():
    assert compare_one(TABLE, TABLE.copy())["status"] == "same"
    assert compare_one(pd.DataFrame(), pd.DataFrame())["status"] == "same"
    gap = TABLE.assign(loss=[None, 1.0, 2.0])
    assert compare_one(gap, gap.copy())["status"] == "same"


def test_the_largest_change_is_the_largest_share_of_its_column():
    changed = TABLE.assign(loss=[2.0, 1.5, 4.0], n=[5, 5, 6])
    row = compare_one(TABLE, changed)
    assert (row["status"], row["largest"]["column"]) == ("changed", "n")  # 1 of 6 before 0.5 of 4
    assert row["largest"]["where"] == {"method": "b"}
    assert row["largest"]["share"] == pytest.approx(1 / 6)


def test_rounding_of_sums_is_no_change():
    row = compare_one(TABLE, TABLE.assign(loss=TABLE["loss"] * (1 + 1e-14)))
    assert row["status"] == "rounding"


def test_a_removed_number_is_a_change_of_its_whole_size():
    row = compare_one(TABLE, TABLE.assign(loss=[2.0, None, 4.0]))
    assert (row["status"], row["largest"]["left"], row["largest"]["right"]) == ("changed", 1.0, None)


def test_added_rows_are_counted_and_the_others_compared():
    more = pd.concat([TABLE, pd.DataFrame({"method": ["c"], "epoch": [1], "loss": [7.0], "n": [5]})])
    row = compare_one(TABLE, more.assign(loss=[2.0, 1.0, 3.0, 7.0]))
    assert (row["rows_left"], row["rows_right"]) == (0, 1)
    assert row["largest"]["where"] == {"method": "b", "epoch": "1", "n": "5"}
    assert compare_one(more, more.iloc[::-1])["status"] == "same"


def test_added_and_removed_columns_are_named():
    row = compare_one(TABLE, TABLE.rename(columns={"n": "count"}))
    assert (row["status"], row["columns_left"], row["columns_right"]) == ("changed", ["n"], ["count"])


def test_measured_time_is_separate_from_other_numbers():
    cost = pd.DataFrame({"method": ["a", "b"], "counted": [1.0, 0.7], "measured": [1.0, 0.8]})
    slower, other = cost.assign(measured=[1.0, 0.9]), cost.assign(measured=[1.0, 0.9], counted=[1.0, 0.71])

    def status(name: str, right: pd.DataFrame) -> tuple[str, str]:
        (row,) = figures.compare({name: cost}, {name: right})
        return row["status"], row["largest"]["column"]

    assert status("cost", slower) == ("timing", "measured")
    assert status("cost", other) == ("changed", "counted")
    assert status("accuracy", slower) == ("changed", "measured")
    assert status("throughput", other) == ("timing", "measured")


def test_a_figure_on_one_side_only_is_reported():
    rows = figures.compare({"a": TABLE, "b": TABLE}, {"b": TABLE, "c": TABLE})
    assert {row["figure"]: row["status"] for row in rows} == {"a": "only left", "b": "same", "c": "only right"}
