"""Training throughput of a study's methods: the networks of each setting take their steps in turn."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rdp.bench.measuring import Ratio, alternate, stepper
from rdp.data import prepared
from rdp.jobs.runner import choose_device
from rdp.spec import Choice
from rdp.store import fingerprint, timestamp
from rdp.study import Cell, Plan, comparisons
from rdp.training.trainer import Trainer, make_deterministic
from rdp.utils import sealed

_STEPS = 2  # in a round, so that methods that alternate two kinds of step are timed in both
_LEARNING_RATE = 1e-3  # so small that no loss overflows; it does not affect the time of a step
COLUMNS = (
    *("run", "dataset", "architecture", "method"),
    *("median", "low", "high", "rounds", "seconds", "device", "measured"),
)


def write(plan: Plan, results: Path) -> Path:
    """Time every setting of a study, write ``speed.parquet`` with one row per method, and return its path.

    ``median``, ``low`` and ``high`` are the training throughput over the baseline's with its 95 % bootstrap interval
    over ``rounds``. ``seconds`` is the median time of a step.
    """
    chosen = choose_device(plan.device)
    make_deterministic(plan.study.threads)
    rows = [row for cells in comparisons.cells(plan).values() for row in _compare(plan, cells, results, chosen)]
    path = results / plan.name / "speed.parquet"
    sealed.write_table(path, pd.DataFrame(rows, columns=list(COLUMNS)), plan.name)
    return path


def _compare(plan: Plan, cells: list[Cell], results: Path, chosen: str) -> list[dict[str, Any]]:
    """Return the rows of one setting; none without a baseline."""
    baseline = comparisons.baseline_label(plan, cells)
    if baseline is None:
        return []
    data = prepared.load(cells[0].dataset, results)
    device, rounds = torch.device(chosen), plan.study.speed_rounds or 2
    runs = {cell.label: Trainer(cell.specs[0], data, device, _choice(cell)) for cell in cells}
    for run in runs.values():
        run.network.train()
    seconds = alternate({label: stepper(run, _STEPS) for label, run in runs.items()}, rounds, device)
    name = fingerprint.stack(chosen)["device"]
    rows = []
    for cell in cells:
        ratio = Ratio.of(seconds[baseline] / seconds[cell.label])
        key = {"run": cell.specs[0].run, "dataset": cell.dataset, "architecture": cell.architecture}
        step = float(np.median(seconds[cell.label])) / _STEPS
        row = key | {"method": cell.label} | vars(ratio) | {"rounds": rounds, "seconds": step, "device": name}
        rows.append(row | {"measured": timestamp(time.time())})
    return rows


def _choice(cell: Cell) -> Choice:
    """A learning rate, and a norm gain if a sweep chooses it. Neither affects the time of a step."""
    return Choice(learning_rate=_LEARNING_RATE, norm_gain=1.0 if cell.specs[0].recipe.norm_gain is None else None)
