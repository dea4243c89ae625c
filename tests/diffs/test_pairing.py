"""Pairing of cells."""

import json

import pandas as pd

from rdp.diffs.pairing import pairs


def cell(name: str, method: str = "vanilla", epochs: int = 1, setting: str = "", seeds: int = 2) -> list[dict]:
    recipe = json.dumps({"epochs": epochs})
    row = {"dataset": "digits", "architecture": "resnet20", "method": method, "recipe": recipe, "setting": setting}
    return [row | {"cell": name, "seed": seed, "status": "completed"} for seed in range(seeds)]


def paired(left: list[list[dict]], right: list[list[dict]]) -> list[tuple[str | None, str | None]]:
    cells = pairs(*(pd.DataFrame([row for rows in side for row in rows]) for side in (left, right)))
    names = [[next((row["cell"] for row in runs.values()), None) for runs in (p.left, p.right)] for p in cells]
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
