"""Parameter efficiency, compared with values computed by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from rdp import study
from rdp.report.efficiency import efficiencies, needed
from rdp.tables import collect

STUDY = """
title: Widths
seeds: 4
methods:
  vanilla:
  pnnh:
grids:
  - {datasets: [digits], architectures: [resnet20w8, resnet20, resnet20w24]}
  - {datasets: [digits], architectures: [resnet56]}
"""
SIZES = {"resnet20w8": 1e4, "resnet20": 1e5, "resnet20w24": 1e6, "resnet56": 1e6}


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.5, 1e4), (0.6, 10**4.5), (0.7, 1e5), (0.8, 1e6), (0.75, 10**5.5), (0.4, 0.0), (0.81, math.inf)],
)
def test_it_is_read_off_the_curve_in_logarithms(accuracy, expected):
    assert needed(np.array([0.5, 0.7, 0.8]), np.array([1e4, 1e5, 1e6]), accuracy) == pytest.approx(expected)


def test_a_larger_network_that_is_worse_is_not_taken():
    curve, sizes = np.array([0.5, 0.7, 0.6, 0.8]), np.array([1e1, 1e2, 1e3, 1e4])
    assert needed(curve, sizes, 0.7) == pytest.approx(1e2)
    assert needed(curve, sizes, 0.75) == pytest.approx(10**3.5)


def plant(folder: Path, level: dict[tuple[str, str], float], spread: float):
    (folder / "widths.yaml").write_text(STUDY)
    plan = study.load(str(folder / "widths.yaml"))
    table, _ = collect.collect(plan, folder / "nothing")
    table["parameters"] = [
        SIZES[a] / (1 if m == "vanilla" else 2) for a, m in zip(table["architecture"], table["method"], strict=True)
    ]
    keys = zip(table["method"], table["architecture"], strict=True)
    table["accuracy"] = [level.get(key, 0.9) for key in keys] + spread * (table["seed"] - 1.5)
    return plan, table


LEVELS = {("vanilla", "resnet20w8"): 0.5, ("vanilla", "resnet20"): 0.7, ("vanilla", "resnet20w24"): 0.8}
LEVELS |= {("pnnh", "resnet20w8"): 0.6, ("pnnh", "resnet20"): 0.85, ("pnnh", "resnet20w24"): 0.3}


def test_each_network_is_compared_with_the_baselines_of_its_depth(tmp_path):
    found = {e.architecture: e for e in efficiencies(*plant(tmp_path, LEVELS, 0.01))}
    assert set(found) == {"resnet20w8", "resnet20", "resnet20w24"}  # resnet56 has one width
    # The seeds move together, so resampling them moves nothing.
    small = found["resnet20w8"]
    assert small.ratio == pytest.approx(10**4.5 / 5e3)
    assert small.low == pytest.approx(small.ratio)
    assert small.high == pytest.approx(small.ratio)
    assert (small.smallest, small.largest) == (2.0, 200.0)
    assert found["resnet20"].ratio == math.inf
    assert found["resnet20w24"].ratio == 0


def test_seeds_that_differ_widen_the_interval(tmp_path):
    plan, table = plant(tmp_path, LEVELS, 0.0)
    mine = (table["method"] == "pnnh") & (table["architecture"] == "resnet20w8")
    table.loc[mine, "accuracy"] += 0.05 * (table.loc[mine, "seed"] - 1.5)
    found = {e.architecture: e for e in efficiencies(plan, table)}["resnet20w8"]
    assert found.low < found.ratio < found.high


def test_a_missing_seed_is_excluded_for_its_network_only(tmp_path):
    plan, table = plant(tmp_path, LEVELS, 0.0)
    mine = (table["method"] == "pnnh") & (table["architecture"] == "resnet20w8")
    table.loc[mine, "accuracy"] = [0.6, 0.6, 0.7, np.nan]
    other = (table["method"] == "pnnh") & (table["architecture"] == "resnet20")
    table.loc[other & (table["seed"] == 3), "accuracy"] = 0.75  # the mean over four seeds is within the curve
    table.loc[other & (table["seed"] < 3), "accuracy"] = 0.65
    found = {e.architecture: e for e in efficiencies(plan, table)}
    assert found["resnet20w8"].accuracy == pytest.approx((0.6 + 0.6 + 0.7) / 3)
    assert found["resnet20"].accuracy == pytest.approx((3 * 0.65 + 0.75) / 4)


def test_nothing_trained_yet_gives_nothing(tmp_path):
    plan, table = plant(tmp_path, LEVELS, 0.0)
    table["accuracy"] = np.nan
    assert list(efficiencies(plan, table)) == []
