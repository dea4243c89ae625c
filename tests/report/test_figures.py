"""Each figure holds what its table says, and nothing is lost on the way."""

from pathlib import Path

import pandas as pd
import pytest

from rdp.errors import UserError
from rdp.report import figures, style
from rdp.study import Plan

from .conftest import make_tables, save


def draw(plan: Plan, folder: Path, name: str, tables: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    save(plan, folder, tables)
    figures.write(figures.load(plan, folder), name, folder)
    for kind in ("svg", "pdf", "png"):
        assert (folder / plan.name / "figures" / f"{name}.{kind}").stat().st_size > 1000
    return pd.read_csv(folder / plan.name / "figures" / f"{name}.csv")


def test_accuracy_shows_every_run_and_its_cells_mean(planted: Plan, tmp_path: Path) -> None:
    table, history = make_tables(planted, tmp_path)
    drawn = draw(planted, tmp_path, "accuracy", (table, history))
    assert len(drawn) == len(table)
    assert sorted(drawn["accuracy"].round(6)) == sorted(table["accuracy"].round(6))
    assert drawn.loc[drawn["method"] == "plain", "mean"].to_numpy() == pytest.approx(0.31)


def test_failed_runs_are_left_out_and_said_so(planted: Plan, tmp_path: Path) -> None:
    table, history = make_tables(planted, tmp_path)
    table.loc[0, ["status", "accuracy"]] = ["failed", float("nan")]
    tables = figures.Tables(planted, table, history, {})
    style.use()
    drawing = figures.accuracy(tables)
    assert len(drawing.data) == len(table) - 1
    assert "1 of 18 runs failed" in drawing.figure.get_supxlabel()


def test_curves_are_the_mean_and_range_over_seeds(planted: Plan, tmp_path: Path) -> None:
    table, history = make_tables(planted, tmp_path)
    history.loc[history["seed"] == 2, "train_loss"] *= 4
    drawn = draw(planted, tmp_path, "training_curves", (table, history))
    first = drawn[(drawn["quantity"] == "train_loss") & (drawn["epoch"] == 1)]
    assert len(first) == 6
    assert (first["min"] == 2.0).all()
    assert (first["max"] == 8.0).all()
    assert (first["mean"] == 4.0).all()


def test_depth_and_cost_take_their_numbers_from_the_records(planted: Plan, tmp_path: Path) -> None:
    tables = make_tables(planted, tmp_path)
    by_depth = draw(planted, tmp_path, "accuracy_by_depth", tables)
    assert sorted(by_depth["depth"].unique()) == [20, 56]
    assert by_depth.loc[by_depth["method"] == "vanilla", "mean"].to_numpy() == pytest.approx(0.96)
    cost = draw(planted, tmp_path, "cost", tables)
    assert (cost["median"] == 3010.0).all()


@pytest.mark.parametrize("name", ["accuracy", "training_curves", "accuracy_by_depth", "cost"])
def test_a_study_without_a_single_result_still_has_its_figures(name: str, planted: Plan, tmp_path: Path) -> None:
    table, history = make_tables(planted, tmp_path)
    table["accuracy"] = table["examples_per_second"] = float("nan")
    table["status"] = "missing"
    assert draw(planted, tmp_path, name, (table, history.iloc[:0])).empty


def test_a_figure_is_the_same_file_each_time(planted: Plan, tmp_path: Path) -> None:
    tables = make_tables(planted, tmp_path)
    path = tmp_path / planted.name / "figures" / "accuracy.svg"
    draw(planted, tmp_path, "accuracy", tables)
    first = path.read_bytes()
    draw(planted, tmp_path, "accuracy", tables)
    assert path.read_bytes() == first


def test_an_unknown_figure_names_the_near_one(planted: Plan, tmp_path: Path) -> None:
    save(planted, tmp_path, make_tables(planted, tmp_path))
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        figures.write(figures.load(planted, tmp_path), "acuracy", tmp_path)


def test_methods_differ_in_more_than_colour() -> None:
    looks = style.looks([f"method {i}" for i in range(12)])
    assert len({(look.marker, look.dash) for look in looks.values()}) == 12
