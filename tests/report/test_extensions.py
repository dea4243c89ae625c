"""A metric, a figure and a claim in the user's folder appear in the verdicts and in the report."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rdp.utils import paths

FOLDERS = {
    "early_droppath.py": "methods",
    "calibration.py": "probes",
    "calibration_error.py": "metrics",
    "reliability.py": "figures",
    "claims.yaml": "claims",
}
STUDY = """
title: Extended
seeds: 5
methods: {vanilla: , early_droppath: {until: 60}}
probes: [calibration]
grids: [{datasets: [digits], architectures: [resnet20]}]
"""
# The probe's table is planted: accuracy is 0.1 below confidence in every bin of every network.
SCRIPT = """
import json
from pathlib import Path

import pandas as pd

from rdp import study
from rdp.claims import model
from rdp.claims.evidence import Records
from rdp.claims.verdicts import decide
from rdp.report import contents, figures
from rdp.tables import load
from tests.report import conftest

conftest.LEVELS["early_droppath"] = conftest.LEVELS["droppath"]
plan, results = study.load("extended.yaml"), Path("results")
conftest.save(plan, results, conftest.make_tables(plan, results))
rows = [
    {"run": spec.run, "dataset": cell.dataset, "architecture": cell.architecture, "method": cell.label}
    | {"seed": spec.seed, "stage": stage}
    | {"bin": b, "examples": 10 * (b + 1), "confidence": 0.5 + 0.1 * b, "accuracy": 0.4 + 0.1 * b}
    for cell in plan.cells for spec in cell.specs for stage in ("initial", "trained") for b in range(3)
]
conftest.save_probe(plan, results, "calibration", rows)
tables = load(plan, results)
claims = model.load()
mine = claims.model_copy(update={"claims": {"MINE-2": claims.claims["MINE-2"]}})
(claim,) = decide(mine, Records(tables))
(comparison,) = claim.verdicts["exploratory"].comparisons
figures.write(tables, "reliability", results)
caption = contents.caption("reliability")
drawn = pd.read_csv(results / "extended" / "figures" / "reliability.csv")
listed = contents.figures(plan)
print(json.dumps({
    "first": comparison.evidence.first, "n": comparison.evidence.effect.n, "word": claim.verdicts["exploratory"].word,
    "probe": listed["reliability"], "last": list(listed)[-2:], "caption": caption, "rows": len(drawn),
}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, kind in FOLDERS.items():
        target = tmp_path / "extensions" / kind / name
        target.parent.mkdir(parents=True)
        shutil.copyfile(paths.ROOT / "docs" / "examples" / name, target)
    (tmp_path / "extended.yaml").write_text(STUDY)
    return tmp_path


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(paths.ROOT)!r})\n{script}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_examples_are_found_by_place_and_shown(folder: Path) -> None:
    done = run(folder, SCRIPT)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    assert shown["first"] == pytest.approx([10.0] * 5)  # points
    assert (shown["n"], shown["word"]) == (5, "supported")
    assert shown["probe"] == "calibration"
    assert shown["last"][-1] == "reliability"
    assert shown["caption"]["title"] == "Reliability"
    assert shown["rows"] == 2 * 3


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("figures/reliability.py", "FIGURES = {n: {} for n in 'ab'}", "reliability.py: FIGURES must be a literal"),
        ("figures/reliability.py", "FIGURES = {'mine': {'prob': 'x'}}", "unknown key 'prob'; did you mean 'probe'"),
        ("figures/reliability.py", "FIGURES = {'cost': {}}", "another file has a figure of this name"),
        ("figures/cost.py", "FIGURES = {}", "cost.py: the name is taken by"),
        ("metrics/calibration_error.py", "UNIT = ''", "calibration_error.py: METRICS is missing"),
        (
            "metrics/calibration_error.py",
            "from rdp.claims.metrics import Metric\nMETRICS = {'accuracy': Metric('', '')}",
            "another file defines the metric 'accuracy'",
        ),
        ("claims/claims.yaml", "claims: {MINE-1: {}}", "claims.yaml: claims.MINE-1"),
    ],
)
def test_a_wrong_file_is_named_with_the_reason(file: str, text: str, message: str, folder: Path) -> None:
    (folder / "extensions" / file).write_text(text)
    script = """
from rdp.claims import metrics, model
from rdp.errors import UserError
from rdp.report import plots
try:
    plots.available(), metrics.available(), model.load()
except UserError as error:
    print(error)
"""
    done = run(folder, script)
    assert message in done.stdout, done.stderr


def test_figures_are_listed_without_importing_what_draws(folder: Path) -> None:
    script = """
import sys
from rdp import study
from rdp.report import contents
assert "reliability" in contents.figures(study.load("extended.yaml"))
print(sorted({"matplotlib", "pandas", "torch", "seaborn"} & {*sys.modules}))
"""
    assert run(folder, script).stdout.strip() == "[]"
