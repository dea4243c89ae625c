"""A study with planted records and figures, and verdicts decided from them."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from rdp import study, tables
from rdp.claims import verdict_json
from rdp.claims.evidence import Records
from rdp.report import contents
from rdp.stats import Effect
from rdp.study import Cell, Plan
from rdp.tables import Tables, collect
from rdp.utils.humanize import PERCENT

STUDY = """
title: "{title}"
description: "{title}"
seeds: {seeds}
methods:
  vanilla:
  residual_droppath:
  plain:
  pnnh:
grids:
  - {{datasets: [digits, fashion_mnist_14], architectures: [{architectures}]}}
"""
ACCURACY = {"vanilla": 0.95, "residual_droppath": 0.96, "plain": 0.30, "pnnh": 0.952}
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><rect width="40" height="20" fill="#ccd"/></svg>'
EPOCHS = 12


class PlantedRecords(Records):
    """Differences of accuracy from the table: planted runs have no predictions."""

    def _accuracy(self, cell: Cell, other: Cell, seeds: tuple[int, ...]) -> Effect:
        by_run = self.tables.records.set_index("run")["accuracy"]
        first, second = (
            [by_run[spec.run] for seed in seeds for spec in each.specs if spec.seed == seed] for each in (cell, other)
        )
        return Effect(tuple(PERCENT * (a - b) for a, b in zip(first, second, strict=True)))


def make_plan(
    folder: Path, *, title: str = "Planted", seeds: int = 8, architectures: str = "resnet20, resnet56"
) -> Plan:
    """A study of both kinds of datasets. With its defaults it has 128 runs, more than the explorer shows at first."""
    path = folder / "planted.yaml"
    path.write_text(STUDY.format(title=title, seeds=seeds, architectures=architectures))
    return study.load(str(path))


def make_records(plan: Plan, folder: Path) -> pd.DataFrame:
    """Records of the study's runs: completed, those on digits begun before any claim was written, others after."""
    table, _ = collect.collect(plan, folder / "nothing")
    noise = np.random.default_rng(0).normal(0, 0.004, len(table)).round(4)
    table["accuracy"] = table["test_accuracy"] = table["method"].map(ACCURACY) + noise
    table["status"], table["reason"] = "completed", None
    table["train_accuracy"] = 0.999
    table["parameters"], table["forward_flops"] = 269434.0, 5.0e6
    table["steps"], table["examples"], table["learning_rate"] = 132.0, 8448.0, 0.05
    table["unit_updates"] = 132.0
    table["training_flops"] = table["method"].map({"residual_droppath": 7e10}).fillna(1e11) + table["seed"] * 1e6
    table["examples_per_second"], table["seconds"] = 3000.0 + 10 * table["seed"], 2.5 + table["seed"] / 4
    table["started"] = table["dataset"].map({"digits": "2001-01-01T00:00:00Z"}).fillna("2999-01-01T00:00:00Z")
    table["device"], table["commit"], table["stack"] = "a machine", "abcdef123456", '{"device": "a machine"}'
    for i, name in enumerate(("spec", "data", "code", "stack")):
        table[f"{name}_digest"] = f"{i}123456789abcdef"
    table["digest"] = [f"{i:064x}"[::-1] for i in range(1, len(table) + 1)]
    return table


def make_history(table: pd.DataFrame, epochs: int = EPOCHS) -> pd.DataFrame:
    """A loss in every epoch, and a validation accuracy in every fourth."""
    runs = table[["run", "dataset", "architecture", "method", "seed"]]
    history = runs.merge(pd.DataFrame({"epoch": range(1, epochs + 1)}), how="cross")
    history["step"] = 11 * history["epoch"]
    history["train_loss"] = 2.3456789 / history["epoch"] + history["seed"] / 100
    history["train_accuracy"], history["validation_loss"] = 0.5, 1.0
    history["validation_accuracy"] = (0.5 + history["epoch"] / 40).where(history["epoch"] % 4 == 0)
    return history


def save(plan: Plan, results: Path, table: pd.DataFrame, history: pd.DataFrame) -> Tables:
    """Write the tables of a study, with a figure each of a few bytes."""
    collect.save(plan.name, results, table, history, collect.collect_sweep(plan, results, table))
    for name in contents.figures(plan):
        contents.save_drawing(plan, name, results / plan.name / "figures", DRAWING)
    return tables.load(plan, results)


def save_claims(loaded: Tables) -> dict[str, Any]:
    """Decide the project's claims by planted tables: ``claims.json``, and what is in it."""
    with mock.patch.object(verdict_json, "Records", PlantedRecords):
        return verdict_json.write(loaded)
