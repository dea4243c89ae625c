"""A full disk ends no training, loses no record, and is reported in one line."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.conftest import TINY, Job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk to fill"),
]
FULL = "No space left on device"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of four megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk to fill can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def job(disk: Path, make_job: Callable[..., Job]) -> Job:
    """A job whose results lie on that disk, and its log elsewhere."""
    job = make_job("job")
    job.folder.mkdir()
    job.results.symlink_to(disk)
    return job


@pytest.fixture
def digests(make_job: Callable[..., Job]) -> dict[str, str]:
    """Of an undisturbed run."""
    job = make_job("undisturbed")
    assert job.attempt().code == 0
    return job.digests


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if FULL in line]


def test_training_goes_on_without_a_checkpoint(job: Job, disk: Path, digests: dict[str, str]) -> None:
    ballast = disk / "ballast"
    whole = job.attempt(fill_at=("checkpoint", 2), free_at=("step", 3), ballast=str(ballast))
    assert whole.code == 0, whole.log
    (line,) = complaints(whole.log)
    assert re.search(r"no checkpoint at step 2, keeping the previous one: \S+/checkpoint-000000002.safetensors: ", line)
    written = [change for change in whole.changes if re.match(r"rename .*/checkpoint-", change)]
    assert [re.search(r"0000000(\d\d)", change)[1] for change in written] == ["01", "03"]
    assert job.digests == digests
    assert job.left_behind == []


@pytest.mark.parametrize("stage", ["checkpoint", "weights", "commit"])
def test_a_record_that_cannot_be_written_is_an_error_and_the_run_resumes(
    stage: str, job: Job, disk: Path, digests: dict[str, str]
) -> None:
    ballast = disk / "ballast"
    stopped = job.attempt(fill_at=(stage, 2 if stage == "checkpoint" else 1), ballast=str(ballast))
    assert stopped.code == 2
    assert "Traceback" not in stopped.log
    assert complaints(stopped.log)[-1].startswith("rdp: ")
    assert stopped.log.splitlines()[-1] == complaints(stopped.log)[-1]
    assert not list(disk.rglob("*.part"))
    assert job.digests == {}
    ballast.unlink()
    again = job.attempt()
    assert again.code == 0, again.log
    assert "resuming from step " + ("1" if stage == "checkpoint" else "3") in again.log
    assert job.digests == digests
    assert job.left_behind == []


def test_a_receipt_that_cannot_be_written_keeps_the_record(job: Job, disk: Path, digests: dict[str, str]) -> None:
    ballast = disk / "ballast"
    stopped = job.attempt(fill_at=("receipt", 1), ballast=str(ballast))
    assert stopped.code == 2
    (line,) = complaints(stopped.log)
    assert re.fullmatch(rf"rdp: \S+/seed-0000\.json: cannot be written \({FULL}\)", line)
    ballast.unlink()
    again = job.attempt()
    assert again.code == 0, again.log
    assert "already completed, skipped" in again.log
    assert job.digests == digests
    assert job.left_behind == []


def test_a_log_on_the_full_disk_ends_no_training(disk: Path, make_job: Callable[..., Job]) -> None:
    """As Snakemake has it, whose logs lie with the results: what is said in each epoch cannot be written."""
    longer = TINY.replace("epochs: 1", "epochs: 10")
    undisturbed, job = make_job("undisturbed", longer), replace(make_job("job", longer), folder=disk / "job")
    assert undisturbed.attempt().code == 0
    whole = job.attempt(fill_at=("step", 5), free_at=("step", 20), ballast=str(disk / "ballast"))
    assert whole.code == 0
    assert job.digests == undisturbed.digests
    assert job.left_behind == []


def test_a_progress_file_that_cannot_be_written_ends_no_training(job: Job, disk: Path, digests: dict[str, str]) -> None:
    order = {"fill_at": ("step", 1), "free_at": ("step", 3), "ballast": str(disk / "ballast")}
    whole = job.attempt(**order, checkpoint_seconds=1000)
    assert whole.code == 0, whole.log
    assert "open CELL/attempts/ATTEMPT/.progress.json.part" in whole.changes
    assert "rename CELL/attempts/ATTEMPT/progress.json" not in whole.changes
    assert job.digests == digests


def fill(ballast: Path) -> None:
    """Write a file until the disk is full."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def test_a_dataset_that_cannot_be_stored_is_an_error_and_the_next_attempt_stores_it(disk: Path, tmp_path: Path) -> None:
    environment = os.environ | {"RDP_RESULTS": str(disk)}
    command = [sys.executable, "-m", "rdp.cli", "data", "prepare", "digits"]

    def prepare() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    fill(disk / "ballast")
    stopped = prepare()
    assert stopped.returncode == 2
    (line,) = stopped.stderr.splitlines()
    assert line.startswith(f"rdp: {disk}/data/digits/data.safetensors: cannot be written (")
    assert FULL in line
    assert not list(disk.rglob("*.part"))
    (disk / "ballast").unlink()
    assert prepare().returncode == 0
