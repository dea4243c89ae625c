"""Figures of plain networks and PNNH show the planted numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rdp import study, tables
from rdp.claims import theory
from rdp.errors import UserError
from rdp.report import figures
from rdp.study import Cell, Plan
from rdp.utils import sealed
from tests.report.conftest import LEVELS, Planted, make_tables, save, save_probe

MakeRows = Callable[..., list[dict[str, Any]]]

STUDY = """
title: Paths
seeds: 3
baseline: pnnh
speed_rounds: 10
tune: {learning_rates: [0.02, 0.05, 0.1], seeds: [1000, 1001]}
probes: [dissipating_inputs, surviving_neurons, coders]
methods:
  vanilla:
  plain:
  pnnh:
  narrow: {method: vanilla, form: same_parameters}
grids:
  - {datasets: [digits], architectures: [resnet20, resnet20w8, resnet56]}
  - {datasets: [digits], architectures: [bare8], learning_rates: [], recipe: {learning_rate: 0.02}}
"""


@pytest.fixture(autouse=True)
def _levels(monkeypatch: pytest.MonkeyPatch) -> None:
    for label, level in {"pnnh": 0.9, "narrow": 0.92}.items():
        monkeypatch.setitem(LEVELS, label, (level, 100, 1.0, 1.0, 1.0))
    monkeypatch.setattr("tests.report.conftest.CHOSEN", dict.fromkeys(LEVELS, 0.05))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "paths.yaml").write_text(STUDY)
    return study.load(str(tmp_path / "paths.yaml"))


def load(plan: Plan, folder: Path, change: Callable[[Planted], None] = lambda planted: None) -> tables.Tables:
    planted = make_tables(plan, folder)
    planted.sweep["train_loss"] = planted.sweep["learning_rate"] * planted.sweep["depth"]
    change(planted)
    save(plan, folder, planted)
    return tables.load(plan, folder)


def test_a_form_is_listed_with_the_methods_of_its_architecture(plan: Plan, tmp_path: Path) -> None:
    narrow = [cell for cell in plan.cells if cell.label == "narrow"]
    forms = {name: f"{name}_same_parameters" for name in ("resnet20", "resnet56")}
    assert {cell.architecture: cell.specs[0].architecture for cell in narrow} == forms
    assert {(s.architecture, s.reason) for s in plan.skipped} == {
        (name, f"{name} has no form same_parameters") for name in ("resnet20w8", "bare8")
    }
    records = load(plan, tmp_path).records
    mine = records[records["method"] == "narrow"]
    assert dict(zip(mine["architecture"], mine["network"], strict=True)) == forms
    assert dict(zip(mine["architecture"], mine["depth"], strict=True)) == {"resnet20": 20, "resnet56": 56}


def test_differences_are_to_the_baseline_that_the_study_names(plan: Plan, tmp_path: Path) -> None:
    drawing = figures.draw(load(plan, tmp_path), "differences")
    assert set(drawing.data["method"]) == {"vanilla", "plain", "narrow"}
    by = drawing.data.groupby("method")["points"].mean()
    assert by["vanilla"] == pytest.approx(6.0)
    assert by["narrow"] == pytest.approx(2.0)
    assert {" ".join(axis.get_xlabel().split()) for axis in drawing.figure.axes} == {
        "",
        "test accuracy minus pnnh's (points)",
    }


def test_an_unknown_baseline_is_named(tmp_path: Path) -> None:
    (tmp_path / "paths.yaml").write_text(STUDY.replace("baseline: pnnh", "baseline: pnh"))
    with pytest.raises(UserError, match="baseline: unknown name 'pnh'; did you mean 'pnnh'"):
        study.load(str(tmp_path / "paths.yaml"))


def test_accuracy_by_depth_takes_one_width_of_each(plan: Plan, tmp_path: Path) -> None:
    def widen(planted: Planted) -> None:
        planted.records.loc[planted.records["architecture"] == "resnet20w8", "accuracy"] = 0.1

    data = figures.draw(load(plan, tmp_path, widen), "accuracy_by_depth").data
    mine = data[(data["method"] == "vanilla") & (data["depth"] == 20)]
    assert mine["mean"].tolist() == pytest.approx([0.96])
    assert mine["seeds"].tolist() == [3]


class TestConvergence:
    def test_lines_are_the_best_rate_and_bands_reach_to_the_worst(self, plan: Plan, tmp_path: Path) -> None:
        drawing = figures.draw(load(plan, tmp_path), "convergence")
        (axis,) = drawing.figure.axes
        line = next(line for line in axis.get_lines() if line.get_label() == "plain")
        assert line.get_xdata().tolist() == [20, 56]
        assert line.get_ydata() == pytest.approx([0.02 * 20, 0.02 * 56])
        data = drawing.data.set_index(["method", "depth", "learning_rate"])["train_loss"]
        assert data["plain", 56, 0.1] == pytest.approx(5.6)
        assert axis.get_title() == "resnet on digits"

    def test_lines_are_the_best_of_all_rates_and_gains(self, plan: Plan, tmp_path: Path) -> None:
        def halve(planted: Planted) -> None:
            planted.sweep.loc[planted.sweep["norm_gain"] == 0.5, "train_loss"] /= 2
            gone = (planted.sweep["norm_gain"] == 0.5) & (planted.sweep["learning_rate"] == 0.02)
            planted.sweep.loc[gone & (planted.sweep["depth"] == 56), "status"] = "diverged"

        (tmp_path / "gains.yaml").write_text(STUDY.replace("tune: {", "tune: {norm_gains: [0.5, 1.0], "))
        drawing = figures.draw(load(study.load(str(tmp_path / "gains.yaml")), tmp_path, halve), "convergence")
        line = next(line for line in drawing.figure.axes[0].get_lines() if line.get_label() == "plain")
        assert line.get_ydata() == pytest.approx([0.01 * 20, 0.02 * 56])  # at depth 56 without the diverged runs
        data = drawing.data.set_index(["method", "depth", "learning_rate", "norm_gain"])["train_loss"]
        assert data["plain", 56, 0.1, 0.5] == pytest.approx(2.8)
        assert data["plain", 56, 0.02, 1.0] == pytest.approx(1.12)
        assert ("plain", 56, 0.02, 0.5) not in data.index
        note = drawing.figure.get_supxlabel().replace("\n", " ")
        assert "Lines: the best learning rate and norm gain." in note
        assert "Left out: learning rates and norm gains of " in note

    def test_runs_that_diverged_are_counted_and_not_drawn(self, plan: Plan, tmp_path: Path) -> None:
        def diverge(planted: Planted) -> None:
            gone = (planted.sweep["method"] == "plain") & (planted.sweep["depth"] == 56)
            planted.sweep.loc[gone, "train_loss"] = 1e20  # an epoch's mean may be finite yet
            planted.sweep.loc[gone, "status"] = "diverged"
            half = (planted.sweep["method"] == "plain") & (planted.sweep["depth"] == 20)
            half &= (planted.sweep["learning_rate"] == 0.02) & (planted.sweep["seed"] == 1000)
            planted.sweep.loc[half, "status"] = "diverged"

        drawing = figures.draw(load(plan, tmp_path, diverge), "convergence")
        line = next(line for line in drawing.figure.axes[0].get_lines() if line.get_label() == "plain")
        assert line.get_xdata().tolist() == [20]
        assert line.get_ydata() == pytest.approx([0.05 * 20])  # one of two runs at 0.02 is no mean
        assert "learning rates of 8 diverged runs" in drawing.figure.get_supxlabel().replace("\n", " ")


def test_the_frontier_joins_widths_of_one_depth_by_their_parameters(plan: Plan, tmp_path: Path) -> None:
    def sizes(planted: Planted) -> None:
        small = planted.records["architecture"] == "resnet20w8"
        planted.records.loc[small, "parameters"] = 70_000.0
        planted.records.loc[small, "accuracy"] -= 0.1

    drawing = figures.draw(load(plan, tmp_path, sizes), "frontier")
    (axis,) = drawing.figure.axes
    assert axis.get_title() == "resnet, depth 20, on digits"
    data = drawing.data.set_index(["method", "parameters"])["mean"]
    assert data["vanilla", 70_000.0] == pytest.approx(0.86)
    assert data["vanilla", 269_434.0] == pytest.approx(0.96)
    assert set(drawing.data["method"]) == {"vanilla", "plain", "pnnh", "narrow"}


def measured(cell: Cell, seed: int, stage: str) -> list[dict[str, Any]]:
    """Half of what is left after each layer, twice as deep in a PNNH network; noise at a tenth."""
    depth = 4 if cell.label == "pnnh" else 2
    return [
        {"layer": layer, "source": source, "quantity": quantity, "value": share * 0.5**layer + 0.01 * seed}
        for source, share in (("data", 1.0), ("noise", 0.1))
        for quantity in ("reconstruction", "cka", "correlation", "rank")
        for layer in range(depth + 1)
    ]


@pytest.mark.parametrize("name", ["dissipation_untrained", "dissipation_trained"])
def test_dissipation_is_drawn_over_the_share_of_the_depth(
    name: str, plan: Plan, tmp_path: Path, make_probe_rows: MakeRows
) -> None:
    loaded = load(plan, tmp_path)
    save_probe(plan, tmp_path, "dissipating_inputs", make_probe_rows(plan, measured))
    drawing = figures.draw(loaded, name)
    axis = drawing.figure.axes[0]
    assert axis.get_title() == "R² of the input"
    by = {line.get_label(): line for line in axis.get_lines()}
    assert by["plain"].get_xdata().tolist() == [0, 0.5, 1]
    assert by["pnnh"].get_xdata().tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert by["pnnh"].get_ydata() == pytest.approx([0.01 + 0.5**k for k in range(5)])
    noise = drawing.data[(drawing.data["source"] == "noise") & (drawing.data["method"] == "plain")]
    assert noise.loc[noise["layer"] == 0, "mean"].unique().tolist() == pytest.approx([0.11])
    assert set(drawing.data["count"]) == {3}


def survivors(cell: Cell, seed: int, stage: str) -> list[dict[str, Any]]:
    return [
        {"layer": layer, "name": "relu", "source": source, "positive": 0.6 if source == "data" else 0.1, "bound": 0.2}
        for source in ("data", "noise")
        for layer in (1, 2)
    ]


def test_survival_is_drawn_with_its_bound_and_closed_form(
    plan: Plan, tmp_path: Path, make_probe_rows: MakeRows
) -> None:
    loaded = load(plan, tmp_path)
    save_probe(plan, tmp_path, "surviving_neurons", make_probe_rows(plan, survivors))
    drawing = figures.draw(loaded, "surviving_neurons")
    data = drawing.data
    assert data["mean"].dropna().unique().tolist() == pytest.approx([0.6])  # the noise is not mixed in
    assert data["bound"].dropna().unique().tolist() == pytest.approx([0.2])
    closed = data[data["closed_form"].notna()]
    assert set(closed["architecture"]) == {"bare8"}
    assert set(closed["stage"]) == {"initial"}
    expected = [layer.survival for layer in theory.by_depth("residual", 8, 0.0, 1.0)]
    assert closed.loc[closed["method"] == "vanilla", "closed_form"].tolist() == pytest.approx(expected)
    assert closed.loc[closed["method"] == "plain", "closed_form"].tolist() == pytest.approx([0.5] * 8)
    assert "closed form" in drawing.figure.get_supxlabel()


def test_surviving_neurons_keeps_branches_and_sums_apart(
    tuned: Plan, tmp_path: Path, make_probe_rows: MakeRows
) -> None:
    def survivors(cell: Cell, seed: int, stage: str) -> list[dict[str, Any]]:
        places = {"blocks.0.branch.relu": 0.4, "blocks.0.relu": 0.8}
        return [
            {"layer": i, "name": name, "positive": share + 0.01 * seed + 0.1 * (stage == "trained")}
            | {"source": source, "bound": 0.3 + 0.01 * seed}
            for source in ("data", "noise")
            for i, (name, share) in enumerate(places.items(), start=1)
        ]

    tuned.study.probes.append("surviving_neurons")
    save(tuned, tmp_path, make_tables(tuned, tmp_path))
    save_probe(tuned, tmp_path, "surviving_neurons", make_probe_rows(tuned, survivors))
    data = figures.draw(tables.load(tuned, tmp_path), "surviving_neurons").data
    assert len(data) == 2 * 5 * 2 * 2  # of the data alone: settings, methods, stages, rectifiers
    mine = data[(data["dataset"] == "digits") & (data["method"] == "plain") & (data["stage"] == "trained")]
    assert mine.loc[mine["inside_branch"], "mean"].tolist() == pytest.approx([0.51])
    assert mine.loc[~mine["inside_branch"], ["mean", "min", "max"]].to_numpy() == pytest.approx(
        np.array([[0.91, 0.9, 0.92]])
    )


def test_coders_are_drawn_one_by_one_for_the_methods_that_have_them(
    plan: Plan, tmp_path: Path, make_probe_rows: MakeRows
) -> None:
    def one(cell: Cell, seed: int, stage: str) -> list[dict[str, Any]]:
        numbers = {"distance": 0.1 * seed, "spectral": 1.0, "orthogonality": 0.0}
        return [{"name": "c", "layers": 6, "rows": 8} | numbers] if cell.label == "pnnh" else []

    loaded = load(plan, tmp_path)
    save_probe(plan, tmp_path, "coders", make_probe_rows(plan, one))
    drawing = figures.draw(loaded, "coders")
    assert len(drawing.data) == 4 * 3  # settings, seeds; trained alone
    top = drawing.figure.axes[0]
    assert sorted(top.collections[0].get_offsets()[:, 0]) == pytest.approx([0, 0.1, 0.2])
    assert [label.get_text() for label in top.get_yticklabels()] == ["pnnh"]


def test_throughput_is_of_the_baseline_with_its_interval(plan: Plan, tmp_path: Path) -> None:
    loaded = load(plan, tmp_path)
    rows = [
        {"run": cell.specs[0].run, "dataset": cell.dataset, "architecture": cell.architecture, "method": cell.label}
        | {"median": 1.2, "low": 1.1, "high": 1.3, "rounds": 4, "seconds": 0.1, "device": "a machine"}
        for cell in plan.cells
    ]
    with pytest.raises(UserError, match="run: rdp speed paths"):
        figures.draw(loaded, "throughput")
    sealed.write_table(tmp_path / plan.name / "speed.parquet", pd.DataFrame(rows), plan.name)
    drawing = figures.draw(loaded, "throughput")
    assert len(drawing.data) == len(plan.cells)
    assert {" ".join(axis.get_xlabel().split()) for axis in drawing.figure.axes} == {
        "",
        "training throughput, relative to pnnh",
    }
    assert "a machine" in drawing.figure.get_supxlabel()
