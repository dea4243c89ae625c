"""Golden runs: short runs of every kind of cell whose numbers are committed.

The code digest leaves modules out that are held to be unable to change a number (`rdp.store.fingerprint.NEUTRAL`).
If one of them can after all, these numbers move while the digest does not. A change of the loop that is meant
to move them renews the file: RDP_RENEW_GOLDEN=1 pytest tests/test_golden.py. Numbers are compared within a
tolerance, because another processor rounds differently; on one machine they are equal to the last bit, which
tests/workflow/test_dag.py checks.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from rdp import study
from rdp.data import prepared
from rdp.training.trainer import Trainer, make_deterministic

GOLDEN = Path(__file__).with_name("golden.json")
STUDY = """
title: Golden runs
seeds: 1
recipe: {learning_rate: 0.02, epochs: 1}
methods:
  vanilla:
  droppath: {rate: 0.5}
  droppath_batch: {rate: 0.5}
  random_freeze: {rate: 0.5}
  residual_droppath: {rate: 0.5}
  rdp_reuse: {method: residual_droppath, rate: 0.5, reuse_batch: true, frozen_norm: eval}
  rdp_flops: {method: residual_droppath, rate: 0.5, recipe: {budget: flops}}
  plain:
  pnnh: {variant: concat}
  pnnh_sum: {method: pnnh, variant: sum, recipe: {norm_gain: 0.2}}
  adamw: {method: vanilla, recipe: {optimizer: adamw, learning_rate: 0.001, schedule: one_cycle, norm_gain: 0.5}}
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {batch_size: 50}}
  - {datasets: [digits], architectures: [resnet20], recipe: {batch_size: 32, train_size: 128, crop_padding: 1}}
  - datasets: [digits]
    architectures: [vit_micro]
    recipe: {optimizer: adamw, learning_rate: 0.002, weight_decay: 0.05, batch_size: 32, train_size: 128}
"""


def train(folder: Path) -> dict[str, list[float]]:
    """Losses and validation accuracy of every golden run, by cell."""
    (folder / "golden.yaml").write_text(STUDY)
    make_deterministic(1)
    found = {}
    for cell in study.load(str(folder / "golden.yaml")).cells:
        run = Trainer(cell.specs[0], prepared.load(cell.dataset, folder), torch.device("cpu"))
        run.train(lambda run: None)
        row: dict[str, Any] = run.history[-1]
        key = f"{cell.architecture}/{cell.dataset}/{cell.label}"
        found[key] = [row["train_loss"], row["validation_loss"], row["validation_accuracy"]]
    return found


def test_golden_runs_give_the_committed_numbers(tmp_path: Path) -> None:
    found = train(tmp_path)
    if os.environ.get("RDP_RENEW_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert found.keys() == golden.keys()
    for cell, numbers in golden.items():
        # A few steps from the start, so that rounding has not grown into another trajectory.
        assert found[cell] == pytest.approx(numbers, rel=5e-3, abs=1e-2), cell
