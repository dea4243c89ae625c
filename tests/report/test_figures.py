"""Each figure shows all the numbers of its table."""

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.text import Text

from rdp import study, tables
from rdp.errors import UserError
from rdp.report import contents, figures, style
from rdp.report.plots import common
from rdp.study import Plan
from rdp.tables import collect
from rdp.utils import paths
from tests.report.conftest import Planted, make_tables, save


def draw(plan: Plan, folder: Path, name: str, planted: Planted) -> pd.DataFrame:
    """What the data file of a figure holds."""
    save(plan, folder, planted)
    figures.write(tables.load(plan, folder), name, folder)
    for kind in ("svg", "pdf", "png"):
        assert (folder / plan.name / "figures" / f"{name}.{kind}").stat().st_size > 1000
    return pd.read_csv(folder / plan.name / "figures" / f"{name}.csv")


def drawing(plan: Plan, folder: Path, name: str, planted: Planted) -> common.Drawing:
    return figures.draw(tables.Tables(plan, *planted, folder), name)


def test_accuracy_shows_every_run_and_its_cells_mean(planted: Plan, tmp_path: Path) -> None:
    made = make_tables(planted, tmp_path)
    drawn = draw(planted, tmp_path, "accuracy", made)
    assert len(drawn) == len(made.records)
    assert sorted(drawn["accuracy"].round(6)) == sorted(made.records["accuracy"].round(6))
    assert drawn.loc[drawn["method"] == "plain", "mean"].to_numpy() == pytest.approx(0.31)


def test_failed_runs_are_left_out_and_said_so(planted: Plan, tmp_path: Path) -> None:
    made = make_tables(planted, tmp_path)
    made.records.loc[0, ["status", "accuracy"]] = ["failed", float("nan")]
    for name in ("accuracy", "differences", "cost"):
        found = drawing(planted, tmp_path, name, made)
        assert "1 of 18 runs failed" in found.figure.get_supxlabel(), name
    assert len(drawing(planted, tmp_path, "accuracy", made).data) == len(made.records) - 1


def test_curves_are_the_mean_and_range_over_seeds(planted: Plan, tmp_path: Path) -> None:
    made = make_tables(planted, tmp_path)
    made.history.loc[made.history["seed"] == 2, "train_loss"] *= 4
    drawn = draw(planted, tmp_path, "training_curves", made)
    first = drawn[(drawn["quantity"] == "train_loss") & (drawn["epoch"] == 1)]
    assert len(first) == 6
    assert (first["min"] == 2.0).all()
    assert (first["max"] == 8.0).all()
    assert (first["mean"] == 4.0).all()


def test_figures_have_the_width_of_the_papers_text_and_letters_of_seven_points(tuned: Plan, tmp_path: Path) -> None:
    made = make_tables(tuned, tmp_path)
    for name in ("accuracy", "differences", "training_curves", "accuracy_by_depth", "cost", "learning_rates"):
        figure = drawing(tuned, tmp_path, name, made).figure
        narrow = name == contents.head([name])  # the page has it beside text
        assert figure.get_figwidth() == (4.4 if narrow else style.WIDTH), name
        assert figure.get_figheight() < style.HEIGHT, name
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
        assert min(sizes) >= 7, name
    drawn = draw(tuned, tmp_path, "accuracy", made)
    assert len(drawn)
    svg = (tmp_path / tuned.name / "figures" / "accuracy.svg").read_text()
    assert f'width="{72 * style.WIDTH:g}pt"' in svg
    layout = (paths.templates() / "paper_layout.typ.j2").read_text()
    (margin,) = re.findall(r"margin: \(x: (\d+)mm", layout)
    assert pytest.approx(210 - 2 * int(margin), abs=0.5) == style.WIDTH * 25.4


def test_rows_and_labels_that_panels_share_are_written_once(planted: Plan, tmp_path: Path) -> None:
    axes = drawing(planted, tmp_path, "accuracy", make_tables(planted, tmp_path)).figure.axes
    named = [[label.get_text() for label in axis.get_yticklabels()] for axis in axes]
    assert named == [["vanilla", "droppath", "plain"], []]
    axes = drawing(planted, tmp_path, "training_curves", make_tables(planted, tmp_path)).figure.axes
    assert [" ".join(axis.get_ylabel().split()) for axis in axes] == [
        "training loss",
        "",
        "validation accuracy (%)",
        "",
    ]


def test_a_long_title_is_broken_within_its_panel(planted: Plan, tmp_path: Path) -> None:
    found = drawing(planted, tmp_path, "accuracy", make_tables(planted, tmp_path))
    found.figure.axes[0].set_title("resnet20 on digits, " + "epochs 12, flip False, " * 3)
    figures._tidy(found.figure)
    lines = found.figure.axes[0].get_title().split("\n")
    assert len(lines) > 1
    assert max(map(len, lines)) <= 41


def test_labels_of_an_axis_are_not_wider_than_their_panel(tuned: Plan, tmp_path: Path) -> None:
    made = make_tables(tuned, tmp_path)
    for name in ("accuracy", "differences", "cost"):
        figure = drawing(tuned, tmp_path, name, made).figure
        figure.draw_without_rendering()
        for axis in figure.axes:
            for text in (axis.xaxis.label, axis.title):
                box = text.get_window_extent()
                assert box.x0 >= 0, (name, text.get_text())
                assert box.x1 <= figure.bbox.x1, (name, text.get_text())


def test_a_run_of_one_epoch_has_no_curve(tuned: Plan, tmp_path: Path) -> None:
    made = make_tables(tuned, tmp_path)
    short = (made.history["dataset"] == "digits") & (made.history["epoch"] > 1)
    drawn = draw(tuned, tmp_path, "training_curves", made._replace(history=made.history[~short]))
    assert set(drawn["dataset"]) == {"spiral"}


def test_depth_takes_its_numbers_from_the_records(planted: Plan, tmp_path: Path) -> None:
    by_depth = draw(planted, tmp_path, "accuracy_by_depth", make_tables(planted, tmp_path))
    assert sorted(by_depth["depth"].unique()) == [20, 56]
    assert by_depth.loc[by_depth["method"] == "vanilla", "mean"].to_numpy() == pytest.approx(0.96)


class TestCost:
    def test_counted_and_measured_cost_of_a_step_are_multiples_of_vanillas(self, tuned: Plan, tmp_path: Path) -> None:
        drawn = draw(tuned, tmp_path, "cost", make_tables(tuned, tmp_path))
        counted = drawn.groupby("method")["counted"].unique()
        # A longer run at the same cost a step: what counts is the step.
        for label, cost in {"vanilla": 1.0, "rdp": 0.7, "rdp_flops": 0.7, "rdp_updates": 0.7, "plain": 0.9}.items():
            assert counted[label] == pytest.approx([cost]), label
        # Vanilla's median is 3010 examples a second, and plain is faster by a quarter.
        here = drawn[drawn["architecture"] == "resnet20"]
        plain = here[here["method"] == "plain"]
        assert plain["measured"].tolist() == pytest.approx([3010 / 3750, 3010 / 3762.5, 3010 / 3775])
        assert plain["measured_median"].tolist() == pytest.approx([0.8] * 3)

    def test_what_is_drawn_is_what_the_data_file_says(self, planted: Plan, tmp_path: Path) -> None:
        found = drawing(planted, tmp_path, "cost", make_tables(planted, tmp_path))
        axis = found.figure.axes[0]
        rows = found.data[found.data["architecture"] == "resnet20"]
        points = [tuple(p) for c in axis.collections for p in np.asarray(c.get_offsets())]
        for place, label in enumerate(["vanilla", "droppath", "plain"]):
            mine = rows[rows["method"] == label]
            diamonds = [x for x, y in points if y == place]
            assert mine["counted"].iloc[0] in diamonds
            assert set(mine["measured"]) <= {x for x, y in points if abs(y - place) < 0.3}
        assert [label.get_text() for label in axis.get_yticklabels()] == ["vanilla", "droppath", "plain"]

    def test_a_diverged_run_says_nothing_of_the_cost(self, planted: Plan, tmp_path: Path) -> None:
        made = make_tables(planted, tmp_path)
        slow = (made.records["method"] == "droppath") & (made.records["seed"] == 2)
        made.records.loc[slow, ["status", "examples_per_second", "training_flops"]] = ["diverged", 1.0, 1.0]
        drawn = draw(planted, tmp_path, "cost", made)
        mine = drawn[drawn["method"] == "droppath"]
        assert len(mine) == 4
        assert mine["measured"].max() == pytest.approx(3010 / 1500)
        assert mine["counted"].to_numpy() == pytest.approx(1.0)


def digits_axis(found: common.Drawing) -> Axes:
    (axis,) = (axis for axis in found.figure.axes if axis.get_title() == "resnet20 on digits")
    return axis


class TestDifferences:
    NEAR: ClassVar = {"rdp": [0.5, 1.0, 1.5], "rdp_flops": [-1.0, 0.0, -0.5], "rdp_updates": [2.0, 2.0, 3.5]}

    def plant(self, plan: Plan, folder: Path, differences: dict[str, list[float]]) -> Planted:
        """Accuracies on digits that differ from vanilla's by these points, seed by seed."""
        made = make_tables(plan, folder)
        table = made.records
        digits = table["dataset"] == "digits"
        for label, points in differences.items():
            for seed, difference in enumerate(points):
                vanilla = table.loc[digits & (table["method"] == "vanilla") & (table["seed"] == seed), "accuracy"]
                mine = digits & (table["method"] == label) & (table["seed"] == seed)
                table.loc[mine, "accuracy"] = vanilla.iloc[0] + difference / 100
        return made

    def test_they_are_paired_by_seed(self, tuned: Plan, tmp_path: Path) -> None:
        made = self.plant(tuned, tmp_path, {"rdp": [1.0, 2.0, 6.0]})
        drawn = draw(tuned, tmp_path, "differences", made)
        assert set(drawn["method"]) == {"rdp", "rdp_flops", "rdp_updates", "plain"}  # vanilla to itself is 0
        mine = drawn[(drawn["method"] == "rdp") & (drawn["dataset"] == "digits")]
        assert mine["points"].tolist() == pytest.approx([1.0, 2.0, 6.0])
        # mean 3, s = sqrt(7), t(0.975, 2) = 4.302653
        half = 4.302653 * 7**0.5 / 3**0.5
        assert mine["mean"].tolist() == pytest.approx([3.0] * 3)
        assert mine["low"].tolist() == pytest.approx([3 - half] * 3, rel=1e-6)
        assert mine["high"].tolist() == pytest.approx([3 + half] * 3, rel=1e-6)

    def test_a_seed_without_its_pair_is_left_out(self, tuned: Plan, tmp_path: Path) -> None:
        made = self.plant(tuned, tmp_path, {"rdp": [1.0, 2.0, 6.0]})
        table = made.records
        lost = (table["dataset"] == "digits") & (table["method"] == "vanilla") & (table["seed"] == 2)
        table.loc[lost, ["status", "accuracy"]] = ["failed", float("nan")]
        drawn = draw(tuned, tmp_path, "differences", made)
        mine = drawn[(drawn["method"] == "rdp") & (drawn["dataset"] == "digits")]
        assert mine["seed"].tolist() == [0, 1]
        assert mine["mean"].tolist() == pytest.approx([1.5, 1.5])

    def test_a_method_far_off_is_named_at_the_edge_and_does_not_stretch_the_axis(
        self, tuned: Plan, tmp_path: Path
    ) -> None:
        made = self.plant(tuned, tmp_path, self.NEAR | {"plain": [-60.0, -59.0, -61.0]})
        found = drawing(tuned, tmp_path, "differences", made)
        axis = digits_axis(found)
        low, high = axis.get_xlim()
        assert -20 < low < high < 20
        (text,) = axis.texts
        assert text.get_text() == "◂ \u221260"
        x, y = text.get_position()
        assert x == low
        assert axis.get_yticklabels()[int(y)].get_text() == "plain"
        # All the others are in sight, with their seeds and intervals.
        rows = found.data[(found.data["dataset"] == "digits") & (found.data["method"] != "plain")]
        assert low < rows[["points", "low"]].min().min()
        assert rows[["points", "high"]].max().max() < high

    def test_a_method_far_above_is_named_at_the_other_edge(self, tuned: Plan, tmp_path: Path) -> None:
        made = self.plant(tuned, tmp_path, self.NEAR | {"plain": [41.0, 40.0, 42.0]})
        axis = digits_axis(drawing(tuned, tmp_path, "differences", made))
        (text,) = axis.texts
        assert text.get_text() == "+41 ▸"
        assert text.get_position()[0] == axis.get_xlim()[1] < 20

    @pytest.mark.parametrize("between", [4.0, 6.0, 9.0, 12.0])
    def test_every_method_is_in_sight_or_named(self, between: float, tmp_path: Path) -> None:
        means = {"near": 0.5, "nearer": 0.2, "nearest": 0.1, "between": between, "far": -60.0}
        methods = "".join(f"  {label}: {{method: droppath, rate: 0.{i}}}\n" for i, label in enumerate(means, start=1))
        grids = "grids: [{datasets: [digits], architectures: [resnet20]}]\n"
        (tmp_path / "many.yaml").write_text(f"title: Many\nseeds: 2\nmethods:\n  vanilla:\n{methods}{grids}")
        plan = study.load(str(tmp_path / "many.yaml"))
        table, history = collect.collect(plan, tmp_path / "nothing")
        table["accuracy"] = 0.8 + table["method"].map(means | {"vanilla": 0.0}) / 100
        axis = digits_axis(drawing(plan, tmp_path, "differences", Planted(table, history, pd.DataFrame())))
        low, high = axis.get_xlim()
        named = [axis.get_yticklabels()[int(text.get_position()[1])].get_text() for text in axis.texts]
        seen = [label for label, mean in means.items() if low < mean < high]
        assert sorted([*seen, *named]) == sorted(means)
        assert "far" in named

    def test_where_none_is_far_off_all_are_in_sight(self, tuned: Plan, tmp_path: Path) -> None:
        made = self.plant(tuned, tmp_path, {label: [-9.0, 2.0, 9.0] for label in ("rdp", "rdp_flops", "plain")})
        found = drawing(tuned, tmp_path, "differences", made)
        axis = digits_axis(found)
        assert not axis.texts
        rows = found.data[found.data["dataset"] == "digits"]
        assert axis.get_xlim()[0] < rows[["points", "low"]].min().min()


class TestLearningRates:
    def test_lines_are_means_over_the_sweeps_seeds(self, tuned: Plan, tmp_path: Path) -> None:
        drawn = draw(tuned, tmp_path, "learning_rates", make_tables(tuned, tmp_path))
        assert set(drawn["dataset"]) == {"digits"}  # the rate of the spiral is given
        mine = drawn[drawn["method"] == "vanilla"]
        assert mine["learning_rate"].tolist() == [0.02, 0.05, 0.1]
        assert mine["mean"].tolist() == pytest.approx([0.81, 0.91, 0.81])
        assert mine["min"].tolist() == pytest.approx([0.80, 0.90, 0.80])
        assert mine["max"].tolist() == pytest.approx([0.82, 0.92, 0.82])
        assert mine["count"].tolist() == [2, 2, 2]
        assert mine["chosen"].tolist() == [False, True, False]
        assert mine["norm_gain"].tolist() == [1.0] * 3  # that of the recipe

    def test_the_chosen_rate_of_each_method_is_ringed(self, tuned: Plan, tmp_path: Path) -> None:
        found = drawing(tuned, tmp_path, "learning_rates", make_tables(tuned, tmp_path))
        (axis,) = found.figure.axes
        rings = [c for c in axis.collections if isinstance(c, PathCollection) and not len(c.get_facecolor())]
        looks = style.looks(list(tuned.study.methods))
        chosen = found.data[found.data["chosen"]].set_index("method")
        assert list(chosen.index) == ["vanilla", "rdp", "rdp_flops", "rdp_updates", "plain"]
        for ring, label in zip(rings, looks, strict=True):
            row = chosen.loc[label]
            assert ring.get_offsets().tolist() == [pytest.approx([row["learning_rate"], 100 * row["mean"]])]
            assert np.allclose(
                ring.get_edgecolor()[0][:3], [int(looks[label].colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
            )
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0.02", "0.05", "0.1"]

    def test_before_the_first_run_of_a_cell_nothing_is_ringed(self, tuned: Plan, tmp_path: Path) -> None:
        made = make_tables(tuned, tmp_path)
        made.sweep.loc[made.sweep["method"] == "rdp", "chosen"] = None
        drawn = draw(tuned, tmp_path, "learning_rates", made)
        assert drawn.loc[drawn["method"] == "rdp", "chosen"].isna().all()
        made.sweep["chosen"] = None
        found = drawing(tuned, tmp_path, "learning_rates", made)
        (axis,) = found.figure.axes
        assert sum(len(c.get_offsets()) for c in axis.collections if isinstance(c, PathCollection)) == 0

    def test_a_rate_of_which_runs_failed_is_the_mean_of_those_there(self, tuned: Plan, tmp_path: Path) -> None:
        made = make_tables(tuned, tmp_path)
        rdp = (made.sweep["method"] == "rdp") & (made.sweep["learning_rate"] == 0.1)
        made.sweep.loc[rdp & (made.sweep["seed"] == 1000), ["status", "accuracy"]] = ["failed", float("nan")]
        drawn = draw(tuned, tmp_path, "learning_rates", made)
        row = drawn[(drawn["method"] == "rdp") & (drawn["learning_rate"] == 0.1)].iloc[0]
        assert (row["mean"], row["count"]) == (pytest.approx(0.92), 1)

    def test_each_norm_gain_has_a_panel_and_one_point_of_them_all_is_ringed(
        self, tuned_gains: Plan, tmp_path: Path
    ) -> None:
        found = drawing(tuned_gains, tmp_path, "learning_rates", make_tables(tuned_gains, tmp_path))
        half, one = found.figure.axes
        assert half.get_title() == "resnet20 on digits, norm gain 0.5"
        assert one.get_title() == "resnet20 on digits, norm gain 1"
        assert half.get_ylim() == one.get_ylim()
        mine = found.data[found.data["method"] == "vanilla"]
        assert mine["norm_gain"].tolist() == [0.5] * 3 + [1.0] * 3
        assert mine["learning_rate"].tolist() == [0.02, 0.05, 0.1] * 2
        assert mine["mean"].tolist() == pytest.approx([0.81, 0.91, 0.81, 0.76, 0.86, 0.76])
        assert mine["count"].tolist() == [2] * 6
        assert mine["chosen"].tolist() == [False, True, False, False, False, False]
        (line,) = (line for line in one.get_lines() if line.get_label() == "vanilla")
        assert line.get_ydata() == pytest.approx([76.0, 86.0, 76.0])
        rings = [
            sum(len(c.get_offsets()) for c in axis.collections if isinstance(c, PathCollection)) for axis in (half, one)
        ]
        assert rings == [5, 0]  # one of each method

    def test_a_sweep_of_which_nothing_is_done_still_has_its_figure(self, tuned: Plan, tmp_path: Path) -> None:
        made = make_tables(tuned, tmp_path)
        made.sweep["status"], made.sweep["accuracy"], made.sweep["chosen"] = "missing", float("nan"), None
        assert draw(tuned, tmp_path, "learning_rates", made).empty
        assert draw(tuned, tmp_path, "learning_rates", made._replace(sweep=made.sweep.iloc[:0])).empty


@pytest.mark.parametrize("name", ["accuracy", "differences", "training_curves", "accuracy_by_depth", "cost"])
def test_a_study_without_a_single_result_still_has_its_figures(name: str, planted: Plan, tmp_path: Path) -> None:
    made = make_tables(planted, tmp_path)
    made.records["accuracy"] = made.records["examples_per_second"] = float("nan")
    made.records["status"] = "missing"
    assert draw(planted, tmp_path, name, made._replace(history=made.history.iloc[:0])).empty


@pytest.mark.parametrize("name", ["accuracy", "learning_rates"])
def test_a_figure_is_the_same_file_each_time(name: str, tuned: Plan, tmp_path: Path) -> None:
    made = make_tables(tuned, tmp_path)
    path = tmp_path / tuned.name / "figures" / f"{name}.svg"
    draw(tuned, tmp_path, name, made)
    first = path.read_bytes()
    draw(tuned, tmp_path, name, made)
    assert path.read_bytes() == first


def test_an_unknown_figure_names_the_near_one(planted: Plan, tmp_path: Path) -> None:
    save(planted, tmp_path, make_tables(planted, tmp_path))
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        figures.write(tables.load(planted, tmp_path), "acuracy", tmp_path)


def test_a_figure_that_the_study_has_no_table_for_is_unknown(planted: Plan, tmp_path: Path) -> None:
    save(planted, tmp_path, make_tables(planted, tmp_path))
    for name in ("learning_rates", "redundancy", "activation_maps_vanilla"):
        with pytest.raises(UserError, match=f"unknown figure '{name}'"):
            figures.write(tables.load(planted, tmp_path), name, tmp_path)


def test_methods_differ_in_more_than_colour() -> None:
    looks = style.looks([f"method {i}" for i in range(12)])
    assert len({(look.marker, look.dash) for look in looks.values()}) == 12


def test_panels_are_as_high_as_their_rows_need() -> None:
    style.use()
    figure, axes = common.grid(5, lines=[10, 4, 2, 3, 1])
    figure.set_layout_engine("none")
    heights = [axis.get_gridspec().get_height_ratios()[axis.get_subplotspec().rowspan.start] for axis in axes]
    assert heights == pytest.approx([0.8 + 0.18 * 10] * 2 + [0.8 + 0.18 * 3] * 2 + [0.8 + 0.18])
    assert figure.get_figheight() == pytest.approx(sum(heights[::2]))
    assert figure.get_figwidth() == style.WIDTH
