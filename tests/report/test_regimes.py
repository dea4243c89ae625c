"""The figure of gains by length of training: paired by seed within one recipe, beside the fit of the baseline."""

from pathlib import Path

import pandas as pd
import pytest

from rdp import study, tables
from rdp.report import contents, figures
from rdp.study import Plan, comparisons
from rdp.tables import collect

STUDY = """
title: Lengths
seeds: 2
methods:
  vanilla:
  strong: {method: residual_droppath, rate: 0.5, recipe: {budget: updates}}
grids:
  - {datasets: [digits], architectures: [resnet20], recipe: {epochs: 48, validate_every: 48}}
  - {datasets: [digits], architectures: [resnet20], recipe: {epochs: 12}}
  - {datasets: [digits], architectures: [resnet20], recipe: {epochs: 12, flip: true}}
  - {datasets: [digits], architectures: [resnet56]}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "lengths.yaml").write_text(STUDY)
    return study.load(str(tmp_path / "lengths.yaml"))


def drawn(plan: Plan, folder: Path, missing: str = "") -> tuple[pd.DataFrame, list]:
    """Vanilla: 0.90 after 12 epochs and 0.95 after 48; strong: a point less, a point more; seeds 2 points apart.

    Runs of the architecture ``missing`` are missing.
    """
    records, history = collect.collect(plan, folder / "nothing")
    records["status"] = "completed"
    epochs = records["recipe"].str.extract(r'"epochs": (\d+)')[0].astype(int)
    level = epochs.map({10: 0.90, 12: 0.90, 48: 0.95})
    gain = epochs.map({10: 0.0, 12: -0.01, 48: 0.01}).where(records["method"] == "strong", 0.0)
    records["accuracy"] = level + gain + 0.02 * records["seed"]
    records["train_accuracy"] = epochs.map({10: 0.93, 12: 0.93, 48: 0.995})
    records.loc[records["architecture"] == missing, ["status", "accuracy", "train_accuracy"]] = "missing", None, None
    made = tables.Tables(plan, records, history, collect.collect_sweep(plan, folder / "nothing", records), folder)
    drawing = figures.draw(made, "regimes")
    return drawing.data, drawing.figure.axes


def test_settings_are_grouped_that_differ_only_in_length(plan):
    groups = {group.title: list(lengths) for group, lengths in comparisons.by_length(plan).items()}
    assert groups == {
        "resnet20 on digits, flip False": [12, 48],
        "resnet20 on digits, flip True": [12],
        "resnet56 on digits": [10],
    }
    assert contents.head(contents.figures(plan)) == "regimes"


def test_a_study_of_one_length_has_no_such_figure(plan, tmp_path):
    grids = "\n".join(line for line in STUDY.splitlines() if "48" not in line)
    (tmp_path / "one.yaml").write_text(grids)
    shown = contents.figures(study.load(str(tmp_path / "one.yaml")))
    assert "regimes" not in shown
    assert contents.head(shown) == "accuracy_by_depth"


def test_each_column_is_another_length_with_the_gain_and_the_fit(plan, tmp_path):
    data, axes = drawn(plan, tmp_path)
    first = data[(data["architecture"] == "resnet20") & (data["recipe"] == "flip False")]
    assert first["epochs"].tolist() == [12, 48]
    assert first["mean"].tolist() == pytest.approx([-1.0, 1.0])
    assert first["test_accuracy"].tolist() == pytest.approx([91.0, 96.0])
    assert first["underfits"].tolist() == [True, False]
    ticks = [tick.get_text() for tick in axes[0].get_xticklabels()]
    assert ticks == ["12 epochs\n93 / 91 %\nunderfitting", "48 epochs\n100 / 96 %"]
    shown = [text.get_text().split("\n")[0] for text in axes[0].texts]
    assert shown == ["\N{MINUS SIGN}1.0", "+1.0"]


def test_without_runs_of_the_baseline_a_column_shows_only_its_length(plan, tmp_path):
    _, axes = drawn(plan, tmp_path, missing="resnet56")
    assert [tick.get_text() for tick in axes[2].get_xticklabels()] == ["10 epochs"]
    assert [text.get_text() for text in axes[2].texts] == ["\N{EN DASH}"]


def test_a_difference_of_nothing_has_no_minus(plan, tmp_path):
    _, axes = drawn(plan, tmp_path)
    (text,) = axes[2].texts
    assert text.get_text().split("\n")[0] == "+0.0"
