"""Two Snakemakes on one study: the second fails in the same checkout, and waits in another one."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Job
from tests.workflow.conftest import Project, copy_project

pytestmark = pytest.mark.slow
METHODS = ("vanilla", "residual_droppath")
TWICE = """
title: Made by two at once
seeds: 2
recipe: {learning_rate: 0.02, epochs: 2, batch_size: 50}
methods:
  vanilla:
  residual_droppath: {rate: 0.2}
grids:
  - {datasets: [spiral], architectures: [mlp8]}
"""


@pytest.fixture
def undisturbed(make_job: Callable[..., Job]) -> dict[str, str]:
    """The digest of every run."""
    digests = {}
    for method in METHODS:
        job = make_job(f"undisturbed-{method}", TWICE, method)
        assert job.attempt().code == 0
        digests |= job.digests
    return digests


def checkout(folder: Path) -> Project:
    folder.mkdir()
    project = copy_project(folder)
    (project.root / "config" / "studies" / "twice.yaml").write_text(TWICE)
    return project


def start(project: Project, results: Path) -> subprocess.Popen[bytes]:
    command = ["snakemake", "--cores", "2", "--config", "study=twice"]
    environment = os.environ | {
        "PYTHONPATH": str(project.root),
        "RDP_RESULTS": str(results),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (project.root / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=project.root, env=environment, stdout=log, stderr=log)


def test_in_one_checkout_the_second_reports_a_locked_directory(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    project = checkout(tmp_path / "one")
    first = start(project, Path("results"))
    while not list(project.root.glob(".snakemake/locks/*")):
        assert first.poll() is None
        time.sleep(0.01)
    second = project.snakemake(study="twice")
    assert first.poll() is None
    assert second.returncode == 1
    assert "Error: Directory cannot be locked." in second.stderr
    assert str(project.root) in second.stderr
    assert "Traceback" not in second.stderr
    assert first.wait() == 0, (project.root / "log").read_text()
    assert project.digests() == undisturbed


def test_in_two_checkouts_each_run_is_trained_once_and_both_succeed(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    projects = [checkout(tmp_path / name) for name in ("one", "two")]
    results = tmp_path / "results"
    both = [start(project, results) for project in projects]
    attempts: set[str] = set()
    while any(process.poll() is None for process in both):
        attempts |= {path.name for path in results.glob("store/*/attempts/*")}
        time.sleep(0.01)
    logs = [(project.root / "log").read_text() for project in projects]
    assert [process.returncode for process in both] == [0, 0], logs
    assert sum("another process makes the same files, waiting for it to end" in log for log in logs) == 1
    assert len(attempts) == len(undisturbed)
    assert Project(tmp_path).digests() == undisturbed
    for project in projects:
        planned = project.run("snakemake", "-n", "--config", "study=twice", RDP_RESULTS=str(results))
        assert "Nothing to be done" in planned.stdout + planned.stderr
    assert not list(results.rglob("*.part"))
