"""A training job that is killed and started again ends in the numbers of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Project

STUDY = """
title: Long enough to be killed
seeds: 1
methods:
  residual_droppath:
  pnnh:
grids:
  - {datasets: [digits], architectures: [resnet20], recipe: {epochs: 4, batch_size: 64, learning_rate: 0.05}}
"""
STEPS = 44


def start(folder: Path, cell: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rdp.cli", "train", "kill.yaml", cell, "--checkpoint-seconds", "0"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def furthest(folder: Path) -> int:
    """The furthest step that a checkpoint was taken at; -1 before the first."""
    found = folder.glob("results/store/*/attempts/*/checkpoint-*.safetensors")
    return max((int(path.stem.rpartition("-")[2]) for path in found), default=-1)


def receipt(folder: Path) -> dict[str, str]:
    (path,) = folder.glob("results/store/*/seed-0000.json")
    return json.loads(path.read_text())


def train_disturbed(folder: Path, cell: str, kills: list[int], number: signal.Signals) -> int:
    """Train, sending the signal when a checkpoint reaches each of these steps; how many times it was sent."""
    sent = 0
    for step in kills:
        process = start(folder, cell)
        while process.poll() is None and furthest(folder) < step:
            time.sleep(0.001)
        if process.poll() is None:
            os.kill(process.pid, number)
            sent += 1
        process.wait()
    process = start(folder, cell)
    assert process.wait() == 0, (folder / "log").read_text()
    return sent


@pytest.mark.slow
@pytest.mark.parametrize("method", ["residual_droppath", "pnnh"])
def test_sigkill_at_several_moments_changes_no_bit(method: str, tmp_path: Path) -> None:
    cell, digests = f"resnet20/digits/{method}", []
    for name, kills in (("undisturbed", []), ("killed", [0, 1, 11, 12, 30, STEPS - 1])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "kill.yaml").write_text(STUDY)
        sent = train_disturbed(folder, cell, kills, signal.SIGKILL)
        assert sent >= len(kills) - 1  # the last may come after the end
        assert "goes on from step" in (folder / "log").read_text() or not kills
        assert not list(folder.glob("results/store/*/attempts/*"))
        digests.append(receipt(folder)["digest"])
    assert digests[0] == digests[1]


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
def test_snakemake_killed_in_the_middle_goes_on(project: Project) -> None:
    before = project.digests()
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
    while process.poll() is None and len(project.digests()) < 4:
        time.sleep(0.05)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    project.snakemake("--unlock")
    done = project.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.digests() == before


@pytest.mark.slow
def test_two_jobs_at_one_run_train_it_once(tmp_path: Path) -> None:
    (tmp_path / "kill.yaml").write_text(STUDY)
    jobs = [start(tmp_path, "resnet20/digits/pnnh") for _ in range(2)]
    assert [job.wait() for job in jobs] == [0, 0]
    log = (tmp_path / "log").read_text()
    assert log.count("completed test accuracy") == 1
    assert "in training by another process, waiting" in log
    assert "already completed, kept" in log
    assert not list(tmp_path.glob("results/store/*/attempts/*"))


@pytest.mark.slow
def test_a_run_that_failed_late_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Full disks and lost GPUs come late; what was trained until then is kept."""
    (tmp_path / "kill.yaml").write_text(STUDY)
    cell = "resnet20/digits/pnnh"
    process = start(tmp_path, cell)
    while furthest(tmp_path) < 20:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    (attempt,) = tmp_path.glob("results/store/*/attempts/*")
    failed = attempt.parents[1] / "seed-0000"
    attempt.rename(failed)  # where a failed attempt comes to lie, with its checkpoints
    assert start(tmp_path, cell).wait() == 0
    assert "goes on from step" in (tmp_path / "log").read_text()
    assert receipt(tmp_path)["status"] == "completed"
