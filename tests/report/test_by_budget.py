"""Comparisons at equal steps, operations and updates."""

import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rdp import study, tables
from rdp.claims import verdict_json
from rdp.claims.compute_cost import compute_costs
from rdp.report import contents, page, summary
from rdp.study import Plan
from tests.report.conftest import TUNED, Planted, make_plan, make_tables, make_tuned_plan, save

HEADING = "Three fair comparisons"


class Tables(HTMLParser):
    """The tables of a page: the texts of their cells, row by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[list[list[str]]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag == "table":
            self.found.append([])
        elif tag == "tr":
            self.found[-1].append([])
        elif tag in {"td", "th"}:
            self.found[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in {"td", "th"}

    def handle_data(self, text: str) -> None:
        if self.inside:
            self.found[-1][-1][-1] += text


def table_with(text: str, *columns: str) -> list[dict[str, str]]:
    """The rows of the one table of a page with these columns, each with the setting above it; of two columns of one
    name, the first.
    """
    (rows,) = (rows for rows in Tables(text).found if set(columns) <= set(rows[0]))
    found, setting = [], ""
    for row in rows[1:]:
        if len(row) == 1:
            (setting,) = row
        else:
            named = dict(reversed(list(zip(rows[0], row, strict=True))))
            found.append(named | {"cells": row, "setting": setting, "dataset": setting.split()[2]})
    return found


@pytest.fixture(scope="module")
def build() -> Callable[[Plan, Path, Planted], str]:
    """Write the page of a study, with one picture for all of its figures."""

    def write(plan: Plan, results: Path, planted: Planted) -> str:
        save(plan, results, planted)
        for name in contents.figures(plan):
            contents.save_drawing(plan, name, results / plan.name / "figures", "<svg/>")
        cost = compute_costs(tables.load(plan, results), [])[None]
        verdict_json.save(plan.name, results, {"confirmatory": [], "level": 0.05, "claims": [], "cost": cost})
        return page.write(plan, results).read_text()

    return write


class TestGrouping:
    def test_cells_of_one_method_under_several_budgets_are_a_row(self, tuned: Plan, tmp_path: Path) -> None:
        rows = summary.by_budget(summary.cells(tuned, make_tables(tuned, tmp_path).records))
        assert [(row["setting"].title, row["method"]) for row in rows] == [
            ("resnet20 on digits", "residual_droppath"),
            ("mlp8 on spiral", "residual_droppath"),
        ]
        for row in rows:
            assert [row[budget].method for budget in summary.BUDGETS] == ["rdp", "rdp_flops", "rdp_updates"]
            assert [row[budget].budget for budget in summary.BUDGETS] == list(summary.BUDGETS)
            assert len({row[budget].setting for budget in summary.BUDGETS}) == 1

    def change(self, folder: Path, **methods: object) -> list[dict[str, object]]:
        content = yaml.safe_load(TUNED)
        content["methods"] |= methods
        content["methods"] = {label: entry for label, entry in content["methods"].items() if entry != "none"}
        (folder / "changed.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        plan = study.load(str(folder / "changed.yaml"))
        table = make_tables(plan, folder).records
        return summary.by_budget(summary.cells(plan, table))

    def test_a_budget_that_is_not_asked_for_is_left_open(self, tmp_path: Path) -> None:
        rows = self.change(tmp_path, rdp_updates="none")
        assert [row["updates"] for row in rows] == [None, None]
        assert [row["flops"].method for row in rows] == ["rdp_flops"] * 2

    def test_other_options_are_another_method(self, tmp_path: Path) -> None:
        other = {"method": "residual_droppath", "rate": 0.3, "recipe": {"budget": "flops"}}
        rows = self.change(tmp_path, rdp_flops=other)
        assert [row["flops"] for row in rows] == [None, None]
        assert [row["updates"].method for row in rows] == ["rdp_updates"] * 2
        assert self.change(tmp_path, rdp_flops=other, rdp_updates="none") == []

    def test_a_study_of_one_budget_has_none(self, planted: Plan, tmp_path: Path) -> None:
        assert summary.by_budget(summary.cells(planted, make_tables(planted, tmp_path).records)) == []
        assert self.change(tmp_path, rdp_flops="none", rdp_updates="none") == []


class TestPage:
    def test_the_table_is_there_exactly_where_a_study_has_budgets(self, tmp_path: Path, build: Callable) -> None:
        for make, there in ((make_plan, False), (make_tuned_plan, True)):
            plan = make(tmp_path)
            assert (HEADING in build(plan, tmp_path, make_tables(plan, tmp_path))) == there

    def test_it_shows_the_difference_and_the_cost_of_each_reading(
        self, tuned: Plan, tmp_path: Path, build: Callable
    ) -> None:
        made = make_tables(tuned, tmp_path)
        spread = (made.records["method"] == "rdp_flops") & (made.records["dataset"] == "digits")
        made.records.loc[spread, "accuracy"] += [-0.01, 0.0, 0.01]
        text = build(tuned, tmp_path, made)
        rows = table_with(text, "at equal steps", "at equal FLOP", "at equal updates")
        assert [(row["setting"], row["method"]) for row in rows] == [
            ("resnet20 on digits", "residual_droppath"),
            ("mlp8 on spiral", "residual_droppath"),
        ]
        # +2 points by 1, 2 and 3: half width 4.302653 / sqrt(3).
        assert rows[0]["cells"][1:] == [
            *("+0.5 points [+0.5, +0.5]", "0.70"),
            *("+2.0 points [\u22120.5, +4.5]", "0.98"),
            *("\u22121.0 points [\u22121.0, \u22121.0]", "1.40"),
        ]
        written = pd.read_csv(tmp_path / tuned.name / "tables" / "comparisons.csv")
        assert written["budget"].tolist() == ["steps", "flops", "updates"] * 2
        assert written["flops"].tolist() == pytest.approx([0.7, 0.98, 1.4] * 2)
        assert written["updates"].tolist() == pytest.approx([0.5, 0.7, 1.0] * 2)
        assert written["difference_mean"].tolist() == pytest.approx([0.5, 2.0, -1.0] * 2)
        assert written["difference_high"][1] == pytest.approx(2 + 4.302653 / math.sqrt(3))
        assert (written["difference_n"] == 3).all()

    def test_accuracy_says_which_learning_rate_each_method_trained_with(
        self, tuned: Plan, tmp_path: Path, build: Callable
    ) -> None:
        made = make_tables(tuned, tmp_path)
        made.records.loc[0, "learning_rate"] = 0.1  # another stack may choose another rate
        rows = table_with(build(tuned, tmp_path, made), "accuracy", "learning rate", "runs in mean")
        shown = {(row["dataset"], row["method"]): row["learning rate"] for row in rows}
        assert shown["digits", "vanilla"] == "0.05, 0.1"
        assert {label: shown["digits", label] for label in ("rdp", "rdp_flops", "rdp_updates", "plain")} == {
            "rdp": "0.1",
            "rdp_flops": "0.1",
            "rdp_updates": "0.02",
            "plain": "0.02",
        }
        assert {rate for (dataset, _), rate in shown.items() if dataset == "spiral"} == {"0.02"}
        written = pd.read_csv(tmp_path / tuned.name / "tables" / "accuracy.csv", dtype=str)
        assert written["learning_rate"].tolist()[:3] == ["0.05 0.1", "0.1", "0.1"]

    def test_accuracy_says_which_norm_gain_the_sweep_chose(
        self, tuned: Plan, tuned_gains: Plan, tmp_path: Path, build: Callable
    ) -> None:
        made = make_tables(tuned_gains, tmp_path)
        made.records.loc[0, "norm_gain"] = 1.0  # another stack may choose another gain
        text = build(tuned_gains, tmp_path, made)
        rows = table_with(text, "accuracy", "learning rate", "norm gain")
        shown = {(row["dataset"], row["method"]): row["norm gain"] for row in rows}
        assert shown["digits", "vanilla"] == "0.5, 1"
        assert shown["digits", "rdp"] == "0.5"
        assert {gain for (dataset, _), gain in shown.items() if dataset == "spiral"} == {"1"}  # that of the recipe
        assert "Swept learning rates and norm gains were chosen" in text
        written = pd.read_csv(tmp_path / tuned_gains.name / "tables" / "accuracy.csv", dtype=str)
        assert written["norm_gain"].tolist()[:2] == ["0.5 1", "0.5"]
        without = build(tuned, tmp_path, make_tables(tuned, tmp_path))
        assert not [row for row in table_with(without, "accuracy", "learning rate") if "norm gain" in row]

    def test_cost_shows_steps_operations_and_updates(self, tuned: Plan, tmp_path: Path, build: Callable) -> None:
        rows = table_with(build(tuned, tmp_path, make_tables(tuned, tmp_path)), "FLOP per step", "steps", "updates")
        names = ("steps", "FLOP per step", "FLOP per run", "updates", "ratio")
        shown = {row["method"]: [row[name] for name in names] for row in rows if row["dataset"] == "digits"}
        assert shown == {
            "vanilla": ["100", "1.00", "1.00", "1.00", "1.00"],
            "rdp": ["100", "0.70", "0.70", "0.50", "1.00"],
            "rdp_flops": ["140", "0.70", "0.98", "0.70", "1.00"],
            "rdp_updates": ["200", "0.70", "1.40", "1.00", "1.00"],
            "plain": ["100", "0.90", "0.90", "1.00", "1.25"],
        }
        written = pd.read_csv(tmp_path / tuned.name / "tables" / "cost.csv")
        mine = written[(written["method"] == "rdp_flops") & (written["dataset"] == "digits")].iloc[0]
        assert mine[["step_cost", "flops", "updates"]].tolist() == pytest.approx([0.7, 0.98, 0.7])
        assert (mine["budget"], mine["steps"]) == ("flops", 140)

    def test_a_diverged_run_is_no_measure_of_what_a_method_costs(
        self, tuned: Plan, tmp_path: Path, build: Callable
    ) -> None:
        made = make_tables(tuned, tmp_path)
        stopped = (made.records["method"] == "rdp") & (made.records["seed"] == 1)
        made.records.loc[stopped, ["status", "accuracy", "training_flops", "unit_updates"]] = [
            "diverged",
            0.1,
            1.0,
            1.0,
        ]
        rows = table_with(build(tuned, tmp_path, made), "FLOP per step", "steps", "updates")
        (mine,) = (row for row in rows if row["method"] == "rdp" and row["dataset"] == "digits")
        assert [mine[name] for name in ("steps", "FLOP per step", "FLOP per run", "updates")] == [
            "100",
            "0.70",
            "0.70",
            "0.50",
        ]

    def test_before_anything_is_finished_all_of_it_is_left_open(
        self, tuned: Plan, tmp_path: Path, build: Callable
    ) -> None:
        made = make_tables(tuned, tmp_path)
        made.records["status"], made.records["accuracy"] = "missing", float("nan")
        numbers = ["parameters", "forward_flops", "iteration_flops", "training_flops", "unit_updates", "learning_rate"]
        made.records[[*numbers, "steps", "examples", "examples_per_second", "seconds"]] = float("nan")
        text = build(tuned, tmp_path, made)
        for row in table_with(text, "at equal steps"):
            assert row["cells"][1:] == ["none", "\u2013"] * 3
        assert {row["learning rate"] for row in table_with(text, "accuracy", "learning rate")} == {"\u2013"}
        for row in table_with(text, "FLOP per step"):
            assert set(row["cells"][1:]) == {"\u2013"}

    def test_the_recipes_say_that_a_rate_was_tuned(self, tuned: Plan, tmp_path: Path, build: Callable) -> None:
        text = build(tuned, tmp_path, make_tables(tuned, tmp_path))
        assert "learning rate tuned" in text
        assert "learning rate 0.02, 10 epochs" in text
        assert "Swept learning rates were chosen" in text
        plan = make_plan(tmp_path)
        assert "sweeps learning rates" not in build(plan, tmp_path, make_tables(plan, tmp_path))

    def test_maps_of_each_method_share_a_caption_and_say_whose_they_are(
        self, tuned: Plan, tmp_path: Path, build: Callable
    ) -> None:
        text = build(tuned, tmp_path, make_tables(tuned, tmp_path))
        for label in tuned.study.methods:
            assert f'id="figure-activation_maps_{label}"' in text
            assert f"<strong>Activation maps, {label}.</strong>" in text
