"""Jobs and Snakemake itself are stopped or killed. tests/faults/ kills jobs at every step."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import Project

STUDY = """
title: Long enough to be killed
seeds: 1
methods:
  residual_droppath:
  pnnh:
grids:
  - {datasets: [digits], architectures: [resnet20], recipe: {epochs: 4, batch_size: 64, learning_rate: 0.05}}
"""


def start(folder: Path, cell: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rdp.cli", "train", "kill.yaml", cell, "--checkpoint-seconds", "0"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def furthest(folder: Path) -> int:
    """The furthest step that a checkpoint was taken at; -1 before the first."""
    found = folder.glob("results/store/*/attempts/*/checkpoint-*.safetensors")
    return max((int(path.stem.rpartition("-")[2]) for path in found), default=-1)


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_ends_with_143(tmp_path: Path) -> None:
    (tmp_path / "kill.yaml").write_text(STUDY)
    process = start(tmp_path, "resnet20/digits/pnnh")
    while furthest(tmp_path) < 5:
        assert process.poll() is None
        time.sleep(0.001)
    process.terminate()
    assert process.wait() == 143
    assert furthest(tmp_path) >= 5
    assert not list(tmp_path.glob("results/store/*/seed-0000.json"))


@pytest.mark.slow
def test_a_killed_snakemake_resumes(project: Project) -> None:
    before = project.digests()
    project.narrow("vanilla", "residual_droppath")
    (project.root / "results").rename(project.root / "before")
    command = ["snakemake", "--cores", "2", "--config", "study=mini"]
    env = os.environ | {
        "PYTHONPATH": str(project.root),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    process = subprocess.Popen(
        command,
        cwd=project.root,
        env=env,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        process_group=0,
    )
    while process.poll() is None and len(project.digests()) < 2:
        time.sleep(0.05)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    project.snakemake("--unlock")
    done = project.snakemake("--until", "collect_records")
    assert done.returncode == 0, done.stdout + done.stderr
    after = project.digests()
    assert len(after) == 8  # of two methods on the spiral and on digits, two seeds each
    assert after.items() <= before.items()


@pytest.mark.slow
def test_two_jobs_for_one_run_train_it_once(tmp_path: Path) -> None:
    (tmp_path / "kill.yaml").write_text(STUDY)
    jobs = [start(tmp_path, "resnet20/digits/pnnh") for _ in range(2)]
    assert [job.wait() for job in jobs] == [0, 0]
    log = (tmp_path / "log").read_text()
    assert log.count("completed test accuracy") == 1
    assert "another process is training this run, waiting" in log
    assert "already completed, skipped" in log
    assert not list(tmp_path.glob("results/store/*/attempts/*"))
