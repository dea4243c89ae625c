"""Tables of planted records, whose numbers a test knows."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from rdp import study
from rdp.study import Plan
from rdp.tables import collect, measurements

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

TUNED = """
title: Tuned
seeds: 3
tune: {learning_rates: [0.02, 0.05, 0.1], seeds: [1000, 1001]}
probes: [feature_reuse, activation_maps]
methods:
  vanilla:
  rdp: {method: residual_droppath}
  rdp_flops: {method: residual_droppath, recipe: {budget: flops}}
  rdp_updates: {method: residual_droppath, recipe: {budget: updates}}
  plain:
grids:
  - {datasets: [digits], architectures: [resnet20]}
  - {datasets: [spiral], architectures: [mlp8], learning_rates: [], recipe: {learning_rate: 0.02}}
"""

# By method: mean accuracy of the seeds, steps, operations of a step of vanilla's, units trained in a step, and
# examples a second of vanilla's.
LEVELS = {
    "vanilla": (0.96, 100, 1.0, 1.0, 1.0),
    "droppath": (0.97, 100, 1.0, 1.0, 0.5),
    "plain": (0.31, 100, 0.9, 1.0, 1.25),
    "rdp": (0.965, 100, 0.7, 0.5, 1.0),
    "rdp_flops": (0.98, 140, 0.7, 0.5, 1.0),
    "rdp_updates": (0.95, 200, 0.7, 0.5, 1.0),
}
BATCH = 64
STEP_FLOPS = 1000.0  # of vanilla, an example
GAIN = 0.5  # that every sweep of gains chooses
CHOSEN = {"vanilla": 0.05, "rdp": 0.1, "rdp_flops": 0.1, "rdp_updates": 0.02, "plain": 0.02}


class Planted(NamedTuple):
    """The tables that `rdp.tables.collect.write` leaves."""

    records: pd.DataFrame
    history: pd.DataFrame
    sweep: pd.DataFrame


def make_plan(folder: Path, title: str = "Planted") -> Plan:
    (folder / "planted.yaml").write_text(STUDY.format(title=title))
    return study.load(str(folder / "planted.yaml"))


def make_tuned_plan(folder: Path) -> Plan:
    (folder / "tuned.yaml").write_text(TUNED)
    return study.load(str(folder / "tuned.yaml"))


def make_tables(plan: Plan, folder: Path) -> Planted:
    """Tables of the study's runs, none of which is trained, with planted numbers filled in."""
    table, _ = collect.collect(plan, folder / "nothing")
    level, steps, share, trained, speed = (table["method"].map(lambda m, i=i: LEVELS[m][i]) for i in range(5))
    table["accuracy"] = table["test_accuracy"] = level + 0.01 * (table["seed"] - 1)
    table["status"] = "completed"
    table["reason"] = None
    table["train_accuracy"] = 0.999
    table["parameters"], table["forward_flops"] = 269434.0, 5.0e6
    table["steps"], table["examples"] = steps.astype(float), steps * float(BATCH)
    table["iteration_flops"] = table["method"].map({"plain": 900.0}).fillna(STEP_FLOPS)
    table["training_flops"] = table["examples"] * share * STEP_FLOPS
    table["unit_updates"] = steps * trained
    given = [json.loads(recipe)["learning_rate"] for recipe in table["recipe"]]
    table["learning_rate"] = [rate or CHOSEN[label] for rate, label in zip(given, table["method"], strict=True)]
    table["norm_gain"] = [json.loads(recipe)["norm_gain"] or GAIN for recipe in table["recipe"]]
    table["examples_per_second"] = speed * (3000.0 + 10 * table["seed"])
    table["seconds"] = 2.0
    table["device"], table["device_type"], table["commit"] = "a machine", "cpu", "abcdef123456"
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
    return Planted(table, pd.DataFrame(epochs), make_sweep(plan, folder))


def make_sweep(plan: Plan, folder: Path) -> pd.DataFrame:
    """The sweep's table.

    The accuracy of a rate falls by 0.1 for each rate away from the chosen one, and by 0.05 at another gain.
    """
    table = collect.collect_sweep(plan, folder / "nothing", collect.collect(plan, folder / "nothing")[0])
    places = {rate: i for i, rate in enumerate(sorted(table["learning_rate"].unique()))}
    away = [abs(places[row.learning_rate] - places[CHOSEN[row.method]]) for row in table.itertuples()]
    table["status"], table["reason"] = "completed", None
    table["accuracy"] = 0.9 - 0.1 * np.array(away, dtype=float) + 0.02 * (table["seed"] == 1001)
    chosen = pd.Series([place == 0 for place in away], dtype=object)  # it may be missing
    if plan.norm_gains:
        other = table["norm_gain"] != GAIN
        table["accuracy"] -= 0.05 * other
        chosen &= ~other
    table["chosen"] = chosen
    return table


def save(plan: Plan, results: Path, tables: Planted) -> None:
    collect.save(plan.name, results, *tables)


def save_probe(plan: Plan, results: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """A probe's table, as `rdp.tables.measurements.write` leaves it."""
    measurements.save(plan.name, name, results, pd.DataFrame(rows))


@pytest.fixture
def planted(tmp_path: Path) -> Plan:
    return make_plan(tmp_path)


@pytest.fixture
def tuned(tmp_path: Path) -> Plan:
    return make_tuned_plan(tmp_path)


@pytest.fixture
def tuned_gains(tmp_path: Path) -> Plan:
    """The tuned study, whose sweep also compares two norm gains."""
    (tmp_path / "gains.yaml").write_text(TUNED.replace("tune: {", f"tune: {{norm_gains: [{GAIN}, 1.0], "))
    return study.load(str(tmp_path / "gains.yaml"))


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def make_probe_rows() -> Callable[..., list[dict[str, Any]]]:
    """One row a cell, seed and stage that ``values`` gives some mappings for, with the keys that all probes have."""

    def make(plan: Plan, values: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
        return [
            {"run": spec.run, "dataset": cell.dataset, "architecture": cell.architecture, "method": cell.label}
            | {"seed": spec.seed, "stage": stage}
            | row
            for cell in plan.cells
            for stage in ("initial", "trained")
            for spec in cell.specs
            for row in values(cell, spec.seed, stage)
        ]

    return make
