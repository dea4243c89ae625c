"""Runs are averaged and paired within one recipe, never across two."""

from pathlib import Path

import pandas as pd
import pytest

from rdp import records, study
from rdp.report import figures, settings, style, summary
from rdp.study import Plan

TWO_RECIPES = """
title: Two recipes
seeds: 2
methods:
  vanilla:
  plain: {recipe: {epochs: 3}}
grids:
  - {datasets: [digits], architectures: [resnet32], recipe: {learning_rate: 0.05}}
  - {datasets: [digits], architectures: [resnet32], recipe: {learning_rate: 0.5}}
  - {datasets: [digits], architectures: [mlp32]}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "two.yaml").write_text(TWO_RECIPES)
    return study.load(str(tmp_path / "two.yaml"))


@pytest.fixture
def table(plan: Plan, tmp_path: Path) -> pd.DataFrame:
    """Accuracy 0.9 and 0.8 at the small rate, 0.2 and 0.1 at the large one, 0.6 and 0.5 for the MLP."""
    found, _ = records.collect(plan, tmp_path / "nothing")
    level = [
        {"mlp32": 0.6}.get(row.architecture, 0.2 if 'rate": 0.5' in row.recipe else 0.9) for row in found.itertuples()
    ]
    found["accuracy"] = level
    found.loc[found["method"] == "plain", "accuracy"] -= 0.1
    return found.assign(status="completed")


def test_a_recipe_is_named_where_a_study_has_two_for_the_same_network(plan: Plan) -> None:
    # What plain changes for itself is the method's, and sets it apart from nothing.
    titles = dict.fromkeys(setting.title for setting in settings.by_cell(plan).values())
    assert list(titles) == [
        "resnet32 on digits, learning_rate 0.05",
        "resnet32 on digits, learning_rate 0.5",
        "mlp32 on digits",
    ]


def test_methods_are_compared_with_vanilla_of_their_own_recipe(plan: Plan, table: pd.DataFrame) -> None:
    compared = [cell for cell in summary.cells(plan, table) if cell.method == "plain"]
    assert [cell.difference.mean for cell in compared] == pytest.approx([-10.0, -10.0, -10.0])
    assert all(cell.difference is None for cell in summary.cells(plan, table) if cell.method == "vanilla")


def test_figures_keep_recipes_and_families_apart(plan: Plan, table: pd.DataFrame, tmp_path: Path) -> None:
    tables = figures.Tables(plan, table, records.collect(plan, tmp_path / "nothing")[1], tmp_path)
    style.use()
    drawn = figures.accuracy(tables).data
    assert drawn.loc[drawn["method"] == "vanilla", "mean"].tolist() == pytest.approx([0.9, 0.9, 0.2, 0.2, 0.6, 0.6])
    by_depth = figures.accuracy_by_depth(tables).data
    assert (by_depth["depth"] == 32).all()
    assert by_depth.loc[by_depth["method"] == "vanilla", "mean"].tolist() == pytest.approx([0.9, 0.2, 0.6])
    assert (by_depth["seeds"] == 2).all()
