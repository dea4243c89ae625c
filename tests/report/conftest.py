"""Tables of records without training: every number is planted, so that a test knows what must be shown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdp import records, study
from rdp.study import Plan

STUDY = """
title: "{title}"
seeds: 3
methods:
  vanilla:
  droppath: {{rate: 0.2}}
  plain:
grids:
  - {{datasets: [digits], architectures: [resnet20, resnet56]}}
"""


def make_plan(folder: Path, title: str = "Planted") -> Plan:
    (folder / "planted.yaml").write_text(STUDY.format(title=title))
    return study.load(str(folder / "planted.yaml"))


def make_tables(plan: Plan, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of the study's runs, none of which is trained, with planted numbers filled in."""
    table, _ = records.collect(plan, folder / "nothing")
    level = table["method"].map({"vanilla": 0.95, "droppath": 0.96, "plain": 0.30})
    table["accuracy"] = table["test_accuracy"] = level + 0.01 * table["seed"]
    table["status"] = "completed"
    table["reason"] = None
    table["parameters"], table["forward_flops"] = 269434.0, 5.0e6
    table["examples_per_second"] = 3000.0 + 10 * table["seed"]
    table["seconds"] = 2.0
    table["device"], table["commit"] = "a machine", "abcdef123456"
    table["stack"] = '{"device": "a machine", "torch": "9.9.9"}'
    for name in ("spec", "data", "code", "stack"):
        table[f"{name}_digest"] = "0123456789abcdef"
    epochs = [
        {"run": row.run, "dataset": row.dataset, "architecture": row.architecture, "method": row.method}
        | {"seed": row.seed, "epoch": epoch, "step": 11 * epoch, "train_loss": 2.0 / epoch, "train_accuracy": 0.5}
        | {"validation_loss": 1.0, "validation_accuracy": 0.8 if epoch == 4 else np.nan}
        for row in table.itertuples()
        for epoch in (1, 2, 3, 4)
    ]
    return table, pd.DataFrame(epochs)


def save(plan: Plan, results: Path, tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    folder = results / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in zip(("records", "history"), tables, strict=True):
        table.to_parquet(folder / f"{name}.parquet", index=False)


@pytest.fixture
def planted(tmp_path: Path) -> Plan:
    return make_plan(tmp_path)
