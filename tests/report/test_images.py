"""Figures of a small record set match their reference images. One run diverged, one failed, one is missing.

After an intended change, inspect the new images and store them:
RDP_RENEW_IMAGES=1 pytest tests/report/test_images.py
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rdp import tables
from rdp.report import figures
from rdp.study import Plan
from tests.report.conftest import make_tables

IMAGES = Path(__file__).parent / "images"
DOTS = 40  # an inch
# Mean difference of a pixel's brightness, of 1. The lock pins matplotlib, which brings its fonts and their renderer.
ALIKE = 0.001


def record_set(plan: Plan, folder: Path) -> tables.Tables:
    made = make_tables(plan, folder)
    runs = made.records
    runs.loc[1, ["status", "accuracy", "test_accuracy"]] = ["diverged", 0.1, float("nan")]
    for row, status in ((2, "failed"), (4, "missing")):
        runs.loc[row, ["status", "accuracy", "test_accuracy"]] = [status, float("nan"), float("nan")]
    return tables.Tables(plan, *made, folder)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    if first.shape != second.shape:
        return 1.0
    return float(np.abs(first[..., :3] - second[..., :3]).mean())


def picture(loaded: tables.Tables, name: str, path: Path) -> np.ndarray:
    drawn = figures.draw(loaded, name)
    drawn.figure.savefig(path, format="png", dpi=DOTS)
    return plt.imread(path)


@pytest.mark.parametrize(
    ("study", "name"),
    [("planted", name) for name in ("accuracy", "differences", "training_curves", "accuracy_by_depth", "cost")]
    + [("tuned", "learning_rates")],
)
def test_a_figure_looks_as_it_did(study: str, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    kept = IMAGES / f"{name}.png"
    found = picture(record_set(request.getfixturevalue(study), tmp_path), name, tmp_path / kept.name)
    if os.environ.get("RDP_RENEW_IMAGES"):
        (tmp_path / kept.name).replace(kept)
    assert difference(found, plt.imread(kept)) < ALIKE, f"see {tmp_path / kept.name} beside {kept}"


def test_a_changed_number_is_seen(planted: Plan, tmp_path: Path) -> None:
    loaded = record_set(planted, tmp_path)
    loaded.records.loc[loaded.records["method"] == "plain", "accuracy"] += 0.2
    for name in ("accuracy", "differences", "accuracy_by_depth"):
        found = picture(loaded, name, tmp_path / f"{name}.png")
        assert difference(found, plt.imread(IMAGES / f"{name}.png")) > ALIKE, name
