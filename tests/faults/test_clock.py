"""Clock jumps of days change no number, delay no checkpoint and lose nothing."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rdp.utils import files
from tests.faults.conftest import STUDY, Job
from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
SECONDS = 0.3  # between checkpoints
DAY = 86400


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime (Debian: faketime) is not installed")
def test_clock_jumps_while_a_job_trains(make_job: Callable[..., Job]) -> None:
    longer = STUDY.replace("epochs: 2", "epochs: 45").replace("train_size: 64", "validate_every: 9")
    undisturbed, job = (make_job(name, longer, "residual_droppath") for name in ("undisturbed", "jumping"))
    assert undisturbed.attempt(checkpoint_seconds=60).code == 0
    job.folder.mkdir()
    jump = job.folder / "jump"
    jump.write_text("+0")
    environment = os.environ | {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(jump)}
    environment |= {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}

    def rdp(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "rdp.cli", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=job.folder, env=environment, **pipes)

    training = rdp("train", str(job.study), "resnet20/digits/residual_droppath", "--checkpoint-seconds", str(SECONDS))
    while job.furthest < 0:
        assert training.poll() is None, training.communicate()[0]
        time.sleep(0.01)
    for days in ("+5d", "-9d"):
        jump.write_text(days)
        status = rdp("status", str(job.study))
        began, before, seen = time.monotonic(), job.furthest, set()
        while len(seen) < 3:
            assert training.poll() is None, training.communicate()[0]
            assert time.monotonic() - began < 60, f"no checkpoint since the clock was set to {days}"
            seen |= {job.furthest} - {before}
            time.sleep(0.01)
        assert time.monotonic() - began > 2 * SECONDS
        shown = status.communicate()[0]
        assert status.returncode == 0, shown
        assert not re.search(r"Traceback|(?<![\w-])-\d", shown), shown
    output = training.communicate()[0]
    assert training.returncode == 0, output
    assert job.digests == undisturbed.digests
    (record,) = job.records.values()
    assert all(0 < seconds < 60 for seconds in record["telemetry"]["epoch_seconds"])
    assert 0 < record["telemetry"]["seconds"] < 600


@pytest.mark.parametrize("days", [-3, 3], ids=["of the past", "of the future"])
def test_a_clock_jump_between_two_snakemakes(days: int, project: Project) -> None:
    """After it, all that was made until then has dates of the past or of the future."""
    before = project.digests()
    receipts = sorted(project.root.glob("results/store/*/seed-*.json"))
    for path in (receipts[0], receipts[-1]):  # not done yet, one of them with its record
        path.unlink()
    shutil.rmtree(receipts[0].with_suffix(""))
    for path in (project.root / "results").rglob("*"):
        date = path.stat().st_mtime + days * DAY
        os.utime(path, (date, date))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.digests() == before
    assert project.planned() == {}


def test_future_modification_times_are_set_to_now_in_order(tmp_path: Path) -> None:
    now = time.time()
    ages = {"past": -DAY, "later": 2 * DAY, "latest": 3 * DAY, "soon": DAY}
    paths = [tmp_path / name for name in ages]
    for path in paths:
        path.touch()
        os.utime(path, (now, now + ages[path.name]))
    files.redate_future([*paths, tmp_path / "absent"])
    dates = {path.name: path.stat().st_mtime for path in paths}
    assert dates["past"] == pytest.approx(now - DAY)
    assert now - 1 < dates["soon"] <= dates["later"] <= dates["latest"] <= time.time() + 1
