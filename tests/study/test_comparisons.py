"""Runs are averaged and paired within one recipe, never across two."""

from pathlib import Path

import pandas as pd
import pytest

from rdp import study
from rdp.report import style, summary
from rdp.report.plots import accuracy, cost
from rdp.study import Plan, comparisons
from rdp.tables import Tables, collect

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


TUNED = """
title: Two sweeps
seeds: 2
tune: {learning_rates: [0.1, 0.2]}
methods:
  vanilla:
  plain:
grids:
  - {datasets: [digits], architectures: [resnet32]}
  - {datasets: [digits], architectures: [resnet32], learning_rates: [0.05]}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "two.yaml").write_text(TWO_RECIPES)
    return study.load(str(tmp_path / "two.yaml"))


@pytest.fixture
def table(plan: Plan, tmp_path: Path) -> pd.DataFrame:
    """Accuracy 0.9 and 0.8 at the small rate, 0.2 and 0.1 at the large one, 0.6 and 0.5 for the MLP."""
    found, _ = collect.collect(plan, tmp_path / "nothing")
    level = [
        {"mlp32": 0.6}.get(row.architecture, 0.2 if 'rate": 0.5' in row.recipe else 0.9) for row in found.itertuples()
    ]
    found["accuracy"] = level
    found.loc[found["method"] == "plain", "accuracy"] -= 0.1
    return found.assign(status="completed")


def test_a_recipe_is_named_where_a_study_has_two_for_the_same_network(plan: Plan) -> None:
    # What plain changes for itself is the method's, and sets it apart from nothing.
    titles = dict.fromkeys(setting.title for setting in comparisons.by_cell(plan).values())
    assert list(titles) == [
        "resnet32 on digits, learning_rate 0.05",
        "resnet32 on digits, learning_rate 0.5",
        "mlp32 on digits",
    ]


@pytest.mark.parametrize(
    ("recipes", "titles"),
    [
        (("{epochs: 2, validate_every: 1}", "{epochs: 8, validate_every: 4}"), ["epochs 2", "epochs 8"]),
        (
            ("{epochs: 8, validate_every: 2}", "{epochs: 8, validate_every: 4}"),
            ["validate_every 2", "validate_every 4"],
        ),
    ],
)
def test_how_often_a_run_is_validated_is_named_only_where_nothing_else_differs(recipes, titles, tmp_path: Path) -> None:
    grids = [f"  - {{datasets: [digits], architectures: [mlp32], recipe: {recipe}}}\n" for recipe in recipes]
    (tmp_path / "two.yaml").write_text(TWO_RECIPES.partition("grids:\n")[0] + "grids:\n" + "".join(grids))
    settings = comparisons.by_cell(study.load(str(tmp_path / "two.yaml"))).values()
    assert list(dict.fromkeys(setting.recipe for setting in settings)) == titles


def test_methods_are_compared_with_vanilla_of_their_own_recipe(plan: Plan, table: pd.DataFrame) -> None:
    compared = [cell for cell in summary.cells(plan, table) if cell.method == "plain"]
    assert [cell.difference.mean for cell in compared] == pytest.approx([-10.0, -10.0, -10.0])
    assert all(cell.difference is None for cell in summary.cells(plan, table) if cell.method == "vanilla")


def test_figures_keep_recipes_and_families_apart(plan: Plan, table: pd.DataFrame, tmp_path: Path) -> None:
    tables = Tables(plan, table, collect.collect(plan, tmp_path / "nothing")[1], pd.DataFrame(), tmp_path)
    style.use()
    drawn = accuracy.accuracy(tables).data
    assert drawn.loc[drawn["method"] == "vanilla", "mean"].tolist() == pytest.approx([0.9, 0.9, 0.2, 0.2, 0.6, 0.6])
    by_depth = accuracy.accuracy_by_depth(tables).data
    assert (by_depth["depth"] == 32).all()
    assert by_depth.loc[by_depth["method"] == "vanilla", "mean"].tolist() == pytest.approx([0.9, 0.2, 0.6])
    assert (by_depth["seeds"] == 2).all()
    differences = accuracy.differences(tables).data
    assert differences["points"].tolist() == pytest.approx([-10.0] * 6)


def titles(folder: Path, text: str) -> list[str]:
    """The settings of a study's cells, cell by cell."""
    (folder / "study.yaml").write_text(text)
    return [setting.title for setting in comparisons.by_cell(study.load(str(folder / "study.yaml"))).values()]


def test_a_tuned_cell_and_one_of_a_given_rate_are_told_apart(tmp_path: Path) -> None:
    text = TUNED.replace("learning_rates: [0.05]", "learning_rates: [], recipe: {learning_rate: 0.5}")
    swept, _, given, last = titles(tmp_path, text)
    assert given == last == "resnet32 on digits, learning_rate 0.5"
    assert swept != given


def test_a_rate_beside_tune_sets_nothing_apart(tmp_path: Path) -> None:
    text = TUNED.replace("seeds: 2", "seeds: 2\nrecipe: {learning_rate: 0.5}").split("  - {datasets", maxsplit=2)
    assert titles(tmp_path, "  - {datasets".join(text[:2])) == ["resnet32 on digits"] * 2


def test_a_gain_beside_a_sweep_of_gains_sets_nothing_apart(tmp_path: Path) -> None:
    text = TUNED.replace("tune: {", "recipe: {norm_gain: 0.7}\ntune: {norm_gains: [0.5, 1.0], ")
    text = text.replace("  plain:", "  plain: {recipe: {norm_gain: 0.2}}").split("  - {datasets")
    assert titles(tmp_path, "  - {datasets".join(text[:2])) == ["resnet32 on digits"] * 2


def test_a_cell_of_a_swept_gain_and_one_of_a_given_gain_are_told_apart(tmp_path: Path) -> None:
    given = "learning_rates: [], recipe: {learning_rate: 0.5, norm_gain: 0.7}"
    text = TUNED.replace("tune: {", "tune: {norm_gains: [0.5, 1.0], ").replace("learning_rates: [0.05]", given)
    swept, _, given, last = titles(tmp_path, text)
    assert swept == "resnet32 on digits, sweep 0.1 0.2"
    assert given == last == "resnet32 on digits, learning_rate 0.5, norm_gain 0.7"


# Neither other ends, nor another rate between the same ones, nor another order is the same sweep.
@pytest.mark.parametrize("rates", ["[0.05]", "[0.1, 0.15, 0.2]", "[0.2, 0.1]"])
def test_two_sweeps_of_one_network_are_told_apart(rates: str, tmp_path: Path) -> None:
    found = titles(tmp_path, TUNED.replace("[0.05]", rates))
    assert len(found) == 4
    assert found[0] == found[1] != found[2] == found[3]


def test_figures_know_the_baseline_by_its_method_as_the_tables_do(tmp_path: Path) -> None:
    text = TWO_RECIPES.replace("  vanilla:\n", "  usual: {method: vanilla}\n")
    (tmp_path / "usual.yaml").write_text(text)
    plan = study.load(str(tmp_path / "usual.yaml"))
    table, history = collect.collect(plan, tmp_path / "nothing")
    table = table.assign(accuracy=0.5, status="completed", examples_per_second=1.0)
    assert [cell.difference.mean for cell in summary.cells(plan, table) if cell.difference] == [0.0, 0.0, 0.0]
    tables = Tables(plan, table, history, pd.DataFrame(), tmp_path)
    style.use()
    assert accuracy.differences(tables).data["points"].tolist() == [0.0] * 6
    assert set(cost.cost(tables).data["method"]) == {"usual", "plain"}
