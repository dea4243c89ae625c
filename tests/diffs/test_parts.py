"""Pairing of cells, and comparison of the data behind figures."""

import json

import pandas as pd
import pytest

from rdp.diffs import figures
from rdp.diffs.pairing import pairs


def cell(name: str, method: str = "vanilla", epochs: int = 1, setting: str = "", seeds: int = 2) -> list[dict]:
    recipe = json.dumps({"epochs": epochs})
    row = {"dataset": "digits", "architecture": "resnet20", "method": method, "recipe": recipe, "setting": setting}
    return [row | {"cell": name, "seed": seed, "status": "completed"} for seed in range(seeds)]


def paired(left: list[list[dict]], right: list[list[dict]]) -> list[tuple[str | None, str | None]]:
    found = pairs(*(pd.DataFrame([row for rows in side for row in rows]) for side in (left, right)))
    names = [[next((row["cell"] for row in runs.values()), None) for runs in (p.left, p.right)] for p in found]
    return [tuple(pair) for pair in names]


def test_cells_are_paired_by_method_whatever_their_recipe():
    assert paired([cell("a"), cell("b", "plain")], [cell("c", "plain", 9), cell("d")]) == [("a", "d"), ("b", "c")]


def test_equal_recipes_are_paired_first_and_then_the_remaining_two():
    left = [cell("a", epochs=1), cell("b", epochs=2), cell("c", epochs=3)]
    right = [cell("f", epochs=3), cell("d", epochs=1), cell("e", epochs=9)]
    assert paired(left, right) == [("a", "d"), ("b", "e"), ("c", "f")]


def test_a_cell_with_two_counterparts_is_not_paired():
    left, right = [cell("a", epochs=1)], [cell("b", epochs=2), cell("c", epochs=3)]
    assert paired(left, right) == [("a", None), (None, "b"), (None, "c")]


def test_cells_with_equal_recipes_are_paired_by_setting():
    """Their recipes are equal, but their sweeps differ."""
    left = [cell("a", setting="sweep 0.1"), cell("b", setting="sweep 0.2")]
    right = [cell("d", setting="sweep 0.2"), cell("c", setting="sweep 0.1")]
    assert paired(left, right) == [("a", "c"), ("b", "d")]


def one(left: pd.DataFrame, right: pd.DataFrame) -> dict:
    (found,) = figures.compare({"it": left}, {"it": right})
    return found


TABLE = pd.DataFrame({"method": ["a", "a", "b"], "epoch": [1, 2, 1], "loss": [2.0, 1.0, 4.0], "n": [5, 5, 5]})


def test_equal_data_are_the_same():
    assert one(TABLE, TABLE.copy())["status"] == "same"
    assert one(pd.DataFrame(), pd.DataFrame())["status"] == "same"
    gap = TABLE.assign(loss=[None, 1.0, 2.0])
    assert one(gap, gap.copy())["status"] == "same"


def test_the_largest_change_is_the_largest_share_of_its_column():
    changed = TABLE.assign(loss=[2.0, 1.5, 4.0], n=[5, 5, 6])
    found = one(TABLE, changed)
    assert (found["status"], found["largest"]["column"]) == ("changed", "n")  # 1 of 6 before 0.5 of 4
    assert found["largest"]["where"] == {"method": "b"}
    assert found["largest"]["share"] == pytest.approx(1 / 6)


def test_rounding_of_sums_is_no_change():
    found = one(TABLE, TABLE.assign(loss=TABLE["loss"] * (1 + 1e-14)))
    assert found["status"] == "rounding"


def test_a_removed_number_is_a_change_of_its_whole_size():
    found = one(TABLE, TABLE.assign(loss=[2.0, None, 4.0]))
    assert (found["status"], found["largest"]["left"], found["largest"]["right"]) == ("changed", 1.0, None)


def test_rows_that_came_or_went_are_counted_and_the_others_still_compared():
    more = pd.concat([TABLE, pd.DataFrame({"method": ["c"], "epoch": [1], "loss": [7.0], "n": [5]})])
    found = one(TABLE, more.assign(loss=[2.0, 1.0, 3.0, 7.0]))
    assert (found["rows_left"], found["rows_right"]) == (0, 1)
    assert found["largest"]["where"] == {"method": "b", "epoch": "1", "n": "5"}
    assert one(more, more.iloc[::-1])["status"] == "same"


def test_columns_that_came_or_went_are_named():
    found = one(TABLE, TABLE.rename(columns={"n": "count"}))
    assert (found["status"], found["columns_left"], found["columns_right"]) == ("changed", ["n"], ["count"])


def test_measured_time_is_told_apart_from_other_numbers():
    cost = pd.DataFrame({"method": ["a", "b"], "counted": [1.0, 0.7], "measured": [1.0, 0.8]})
    slower, other = cost.assign(measured=[1.0, 0.9]), cost.assign(measured=[1.0, 0.9], counted=[1.0, 0.71])

    def status(name: str, right: pd.DataFrame) -> tuple[str, str]:
        (found,) = figures.compare({name: cost}, {name: right})
        return found["status"], found["largest"]["column"]

    assert status("cost", slower) == ("timing", "measured")
    assert status("cost", other) == ("changed", "counted")
    assert status("accuracy", slower) == ("changed", "measured")
    assert status("throughput", other) == ("timing", "measured")


def test_a_figure_on_one_side_only_is_reported():
    found = figures.compare({"a": TABLE, "b": TABLE}, {"b": TABLE, "c": TABLE})
    assert {row["figure"]: row["status"] for row in found} == {"a": "only left", "b": "same", "c": "only right"}
