"""The table of accuracies and the figures of each subject."""

from pathlib import Path
from typing import Any

import pytest

from rdp import study
from rdp.report import paper_results, summary
from rdp.report.summary import CellSummary
from rdp.study import Plan
from tests.report.conftest import Planted, make_tables

WIDTHS = """
title: Widths
seeds: 3
methods:
  vanilla:
  droppath: {rate: 0.2}
  plain:
grids:
  - {datasets: [digits], architectures: [resnet20, resnet20w8, resnet32, resnet44, resnet56, resnet110, resnet20w24]}
  - {datasets: [spiral], architectures: [mlp8], methods: [vanilla]}
"""


def cells(plan: Plan, made: Planted) -> list[CellSummary]:
    return summary.cells(plan, made.records)


def test_methods_are_rows_and_depths_are_columns(planted: Plan, tmp_path: Path) -> None:
    made = make_tables(planted, tmp_path)
    (band,) = paper_results.bands(cells(planted, made))
    assert band["groups"] == [("resnet on digits", 2)]
    assert band["columns"] == ["20", "56"]
    assert band["chance"] == ["10.0", "10.0"]
    rows = dict(band["rows"])
    assert list(rows) == ["vanilla", "droppath", "plain"]
    # 0.96, 0.97 and 0.98: half width 4.302653 x 1 / sqrt(3) = 2.5
    assert rows["droppath"][0] == {"mean": "97.0", "half": "2.5", "best": True, "sign": "+", "diverged": False}
    assert rows["plain"][1]["mean"] == "31.0"
    assert rows["plain"][1]["sign"] == "\u2212"
    assert not rows["vanilla"][0]["best"]


def test_a_difference_that_is_not_shown_has_no_sign_and_a_diverged_run_is_marked(planted: Plan, tmp_path: Path) -> None:
    made = make_tables(planted, tmp_path)
    mine = (made.records["architecture"] == "resnet20") & (made.records["method"] == "droppath")
    made.records.loc[mine, "accuracy"] = [0.99, 0.93, 0.10]
    made.records.loc[mine & (made.records["seed"] == 2), "status"] = "diverged"
    (band,) = paper_results.bands(cells(planted, made))
    entry = dict(band["rows"])["droppath"][0]
    assert (entry["sign"], entry["diverged"]) == ("", True)


def test_the_best_of_a_column_is_marked_only_above_chance(planted: Plan, tmp_path: Path) -> None:
    made = make_tables(planted, tmp_path)
    made.records.loc[made.records["architecture"] == "resnet20", "accuracy"] = 0.09
    (band,) = paper_results.bands(cells(planted, made))
    marked = [[entry["best"] for entry in row] for _, row in band["rows"]]
    assert [any(column) for column in zip(*marked, strict=True)] == [False, True]


def test_without_runs_a_cell_has_a_dash(planted: Plan, tmp_path: Path) -> None:
    made = make_tables(planted, tmp_path)
    made.records["accuracy"], made.records["status"] = float("nan"), "missing"
    (band,) = paper_results.bands(cells(planted, made))
    empty = {"mean": "\u2013", "half": "", "best": False, "sign": "", "diverged": False}
    assert all(entry == empty for _, row in band["rows"] for entry in row)


def test_many_settings_are_split_into_even_tables_that_name_widths(tmp_path: Path) -> None:
    (tmp_path / "widths.yaml").write_text(WIDTHS)
    plan = study.load(str(tmp_path / "widths.yaml"))
    found = paper_results.bands(cells(plan, make_tables(plan, tmp_path)))
    assert [band["groups"] for band in found] == [
        [("resnet on digits", 4)],
        [("resnet on digits", 3), ("mlp on spiral", 1)],
    ]
    assert found[0]["columns"] == ["resnet20", "resnet20w8", "resnet20w24", "resnet32"]
    assert found[1]["columns"] == ["resnet44", "resnet56", "resnet110", "mlp8"]
    rows = dict(found[1]["rows"])
    assert rows["plain"][-1] is None  # the study lacks it
    assert not rows["vanilla"][-1]["best"]  # of one method


def claim(name: str, *metrics: str, tested: bool = True) -> dict[str, Any]:
    compared = [{"metric": metric, "condition": None} for metric in metrics]
    return {"name": name, "tested": tested, "verdicts": {"exploratory": {"comparisons": compared}}}


def test_each_subject_has_the_plainest_figures_of_the_study_and_its_claims() -> None:
    claims = [claim("A", "accuracy"), claim("B", "redundancy"), claim("C", "redundancy", tested=False)]
    names = ["accuracy", "differences", "accuracy_by_depth", "cost", "throughput", "redundancy", "mine"]
    found = {row["title"]: row for row in paper_results.subjects(names, claims, depths=True)}
    assert found["Accuracy"]["figures"] == ["accuracy_by_depth", "differences"]
    assert found["Accuracy"]["claims"] == ["A"]
    assert found["Reuse of features"]["claims"] == ["B"]
    assert found["Cost and parameters"]["figures"] == ["throughput"]
    assert found["Plain networks and coders"]["figures"] == []
    (first, *_) = paper_results.subjects(names, claims, depths=False)
    assert first["figures"] == ["accuracy", "differences"]


@pytest.mark.parametrize(("architectures", "expected"), [(["resnet20", "resnet56"], True), (["resnet20"], False)])
def test_depths_are_of_one_family_and_dataset(architectures: list[str], expected: bool, tmp_path: Path) -> None:
    grid = f"{{datasets: [digits], architectures: [{', '.join(architectures)}, vit_micro12]}}"
    (tmp_path / "depths.yaml").write_text(WIDTHS.partition("  - {")[0] + f"  - {grid}\n")
    plan = study.load(str(tmp_path / "depths.yaml"))
    assert paper_results.has_depths(cells(plan, make_tables(plan, tmp_path))) is expected
