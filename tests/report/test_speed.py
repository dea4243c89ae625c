"""The comparisons of a study's throughput. No test depends on the speed of the machine."""

from pathlib import Path

import pandas as pd
import pytest

from rdp import study
from rdp.bench import throughput as speed
from rdp.study import Plan

STUDY = """
title: Speed
seeds: 2
speed_rounds: 10
methods:
  vanilla:
  residual_droppath:
  pnnh:
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {epochs: 1, batch_size: 50}}
  - {datasets: [spiral], architectures: [mlp16], methods: [pnnh], recipe: {epochs: 1, batch_size: 50}}
"""


def load(folder: Path, text: str = STUDY) -> Plan:
    (folder / "speedy.yaml").write_text(text)
    return study.load(str(folder / "speedy.yaml"))


def test_every_method_of_a_setting_with_a_baseline_is_measured(tmp_path: Path) -> None:
    plan = load(tmp_path)
    path = speed.write(plan, tmp_path)
    table = pd.read_parquet(path)
    assert path == tmp_path / "speedy" / "speed.parquet"
    assert list(table.columns) == list(speed.COLUMNS)
    # mlp16 has no vanilla to be compared with.
    assert list(zip(table["architecture"], table["method"], strict=True)) == [
        ("mlp8", name) for name in ("vanilla", "residual_droppath", "pnnh")
    ]
    assert table.loc[table["method"] == "vanilla", ["median", "low", "high"]].to_numpy() == pytest.approx(1)
    assert (table["low"] <= table["median"]).all()
    assert (table["median"] <= table["high"]).all()
    assert (table["seconds"] > 0).all()
    assert set(table["rounds"]) == {10}


def test_the_baseline_is_the_one_that_the_study_names(tmp_path: Path) -> None:
    table = pd.read_parquet(speed.write(load(tmp_path, "baseline: pnnh\n" + STUDY), tmp_path))
    assert set(table["architecture"]) == {"mlp8", "mlp16"}
    assert table.loc[table["method"] == "pnnh", "median"].to_numpy() == pytest.approx(1)
