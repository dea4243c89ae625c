"""Killed before every single change of a file: checkpoints, record, renaming, receipt."""

import itertools
import re
import shutil
import signal
from collections.abc import Callable

import pytest

from tests.faults.conftest import Attempt, Job

KILLED = -signal.SIGKILL


def kill_at_every_change(make_job: Callable[..., Job], prepare: Callable[[Job], object]) -> list[str]:
    """Kill an attempt before its first change of a file, another before its second, … until one comes to its end.

    Each is begun in what ``prepare`` leaves, and started once more; that must do the rest, and no more than the rest.

    Returns:
        the changes before which it was killed.
    """
    undisturbed, template, killed_before = make_job("undisturbed"), make_job("template"), []
    assert undisturbed.attempt().code == 0
    prepare(template)
    for number in itertools.count():
        halves = [False]
        for half in halves:
            job = make_job(f"{number}{'half' * half}")
            if template.folder.exists():
                shutil.copytree(template.folder, job.folder)
            killed = job.attempt(kill_at=number, half=half)
            if killed.code == 0:
                return killed_before
            assert killed.code == KILLED, killed.log
            goes_on_well(job, killed, undisturbed.digests, template.furthest)
            if re.match(r"(sync|write) .*\.part$", killed.changes[-1]) and not half:
                halves.append(True)
            shutil.rmtree(job.folder)
        killed_before.append(killed.changes[-1])
    raise AssertionError


def goes_on_well(job: Job, killed: Attempt, digests: dict[str, str], before: int) -> None:
    """A job that was killed ends in these numbers when it is started again, and does nothing twice.

    It was begun with a checkpoint of the step ``before``, or none where that is -1.
    """
    *done, last = killed.changes
    steps = [int(found[1]) for change in done if (found := re.match(r"rename .*/checkpoint-(\d+)", change))]
    again = job.attempt()
    assert again.code == 0, (last, again.log)
    assert job.digests == digests, last
    assert job.left_behind == [], last
    if "rename CELL/seed-0000" in done:
        assert "train" not in again.stages, last
    elif (furthest := max([before, *steps])) > 0:
        (record,) = job.records.values()
        assert record["telemetry"]["resumed_at"][-1] == furthest, last


@pytest.mark.slow
def test_killed_at_every_change_of_a_run(make_job: Callable[..., Job]) -> None:
    killed_before = kill_at_every_change(make_job, lambda job: None)
    for change in (
        "rename data/spiral/data.safetensors",
        "rename data/spiral/manifest.json",
        "mkdir CELL/attempts/ATTEMPT",
        "write CELL/attempts/ATTEMPT/.checkpoint-000000001.safetensors.part",
        "sync CELL/attempts/ATTEMPT/.checkpoint-000000002.safetensors.part",
        "rename CELL/attempts/ATTEMPT/checkpoint-000000003.safetensors",
        "sync CELL/attempts/ATTEMPT",
        "remove CELL/attempts/ATTEMPT/checkpoint-000000001.safetensors",
        "rename CELL/attempts/ATTEMPT/progress.json",
        "rename CELL/attempts/ATTEMPT/weights.safetensors",
        "open CELL/attempts/ATTEMPT/.record.json.part",
        "rename CELL/attempts/ATTEMPT/record.json",
        "rename CELL/seed-0000",
        "remove CELL/seed-0000/checkpoint-000000003.safetensors",
        "rename CELL/seed-0000.json",
        "remove CELL/seed-0000.lock",
    ):
        assert change in killed_before


def fail(job: Job) -> None:
    """Leave a run that failed at its third step, with its checkpoints."""
    assert job.attempt(fail_at=("step", 3)).code == 0
    (record,) = job.records.values()
    assert record["status"] == "failed"


def between_two_names(job: Job) -> None:
    """Leave what a kill leaves when a failed run is out of its place and the whole one not yet in it."""
    fail(job)
    trial = Job(job.server, job.folder.with_name("trial"), job.study, job.method)
    shutil.copytree(job.folder, trial.folder)
    moment = trial.attempt().changes.index("rename CELL/seed-0000")
    assert job.attempt(kill_at=moment).code == KILLED
    (folder,) = (job.results / "store").iterdir()
    assert ["replaced" in path.parts[-2] for path in sorted(folder.glob("attempts/*/record.json"))] == [False, True]


@pytest.mark.slow
def test_killed_at_every_change_of_a_run_that_replaces_a_failed_one(make_job: Callable[..., Job]) -> None:
    killed_before = kill_at_every_change(make_job, fail)
    assert "rename CELL/attempts/ATTEMPT-replaced" in killed_before
    assert "remove CELL/attempts/ATTEMPT-replaced/record.json" in killed_before


@pytest.mark.slow
def test_killed_at_every_change_of_a_run_that_was_killed_while_replacing(make_job: Callable[..., Job]) -> None:
    killed_before = kill_at_every_change(make_job, between_two_names)
    assert "rename CELL/seed-0000" in killed_before
