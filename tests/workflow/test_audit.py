"""The target `audit` reruns on every request and fails if it has findings."""

import pytest

from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow


def test_the_audit_passes_and_fails(project: Project) -> None:
    assert "audit" not in project.planned()
    well = project.run("snakemake", "--cores", "2", "audit", "--config", "study=mini", "retrain=1")
    assert well.returncode == 0, well.stdout + well.stderr
    assert "results/mini/audit/index.html: no findings" in well.stdout + well.stderr
    page = project.root / "results" / "mini" / "audit" / "index.html"
    assert "<h1>No findings</h1>" in page.read_text()
    edited = project.root / "results" / "mini" / "figures" / "accuracy.csv"
    text = edited.read_text()
    edited.write_text(text.replace("vanilla", "vanille", 1))
    ill = project.run("snakemake", "--cores", "2", "audit", "--config", "study=mini")
    assert ill.returncode == 1
    assert "results/mini/figures/accuracy.csv: row " in ill.stdout + ill.stderr
    assert "<h1>1 finding</h1>" in page.read_text()


def test_an_invalid_number_of_runs_is_rejected(project: Project) -> None:
    refused = project.run("snakemake", "-n", "audit", "--config", "study=mini", "retrain=many")
    assert refused.returncode != 0
    assert "--config retrain=many: expected a number of runs" in refused.stdout + refused.stderr
