"""Stopped, failed, or with a damaged checkpoint, training resumes to the same numbers."""

import signal
from collections.abc import Callable

import pytest

from tests.faults.conftest import STAGES, STUDY, TINY, Job

pytestmark = pytest.mark.slow


@pytest.fixture
def digests(make_job: Callable[..., Job]) -> Callable[[str, str], dict[str, str]]:
    """Of undisturbed runs."""

    def of(study: str, method: str) -> dict[str, str]:
        job = make_job("undisturbed", study, method)
        assert job.attempt().code == 0
        return job.digests

    return of


@pytest.mark.parametrize("stage", STAGES[1:])
def test_sigterm_ends_well_at_every_stage(stage: str, make_job: Callable[..., Job], digests: Callable) -> None:
    """In training with a checkpoint and status 143; later the last run is brought to its end."""
    job = make_job("stopped")
    stopped = job.attempt(
        stage=(stage, 1), signal=signal.SIGTERM, checkpoint_seconds=0 if stage == "checkpoint" else 60
    )
    assert "Traceback" not in stopped.log
    if stage in {"build", "train", "checkpoint"}:
        assert stopped.code == 143
        assert job.records == {}
        assert job.furthest > 0
    else:
        assert stopped.code == 0
    again = job.attempt()
    assert again.code == 0, again.log
    assert ("resuming from step" if stopped.code else "already completed, skipped") in again.log
    assert job.digests == digests(TINY, "residual_droppath")
    assert job.left_behind == []


def test_sigterm_in_the_last_evaluation_writes_the_record_and_starts_no_other_run(make_job: Callable[..., Job]) -> None:
    job = make_job("stopped", TINY.replace("seeds: 1", "seeds: 2"))
    stopped = job.attempt(stage=("evaluate", 1), signal=signal.SIGTERM)
    assert stopped.code == 143
    assert [run[-4:] for run in job.records] == ["0000"]
    assert job.left_behind == []
    assert job.attempt().code == 0
    assert [run[-4:] for run in job.records] == ["0000", "0001"]


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
@pytest.mark.parametrize("method", ["pnnh", "adamw"])
def test_a_damaged_checkpoint_is_named_and_training_resumes_from_the_one_before(
    method: str, damage: str, make_job: Callable[..., Job], digests: Callable
) -> None:
    job = make_job("damaged", STUDY, method)
    assert job.attempt(stage=("checkpoint", 4)).code == -signal.SIGKILL
    (before, _), (_, newest) = job.checkpoints.items()
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes({"flipped": content, "truncated": content[:-100], "empty": b""}[damage])
    again = job.attempt()
    assert again.code == 0, again.log
    (line,) = (line for line in again.log.splitlines() if "damaged" in line)
    assert f"{newest}: damaged checkpoint, using the one before" in line
    assert f"resuming from step {before}" in again.log
    assert job.digests == digests(STUDY, method)


def test_with_all_checkpoints_damaged_training_starts_again(make_job: Callable[..., Job], digests: Callable) -> None:
    job = make_job("damaged")
    assert job.attempt(stage=("checkpoint", 3)).code == -signal.SIGKILL
    for path in job.checkpoints.values():
        path.write_bytes(path.read_bytes()[:-1])
    again = job.attempt()
    assert again.log.count("damaged checkpoint") == 2
    assert "resuming" not in again.log
    assert job.digests == digests(TINY, "residual_droppath")


def test_a_run_that_fails_keeps_its_checkpoints_however_often(make_job: Callable[..., Job], digests: Callable) -> None:
    """What fails late, a GPU that is lost, may fail early when it is tried again."""
    job = make_job("failed", STUDY, "adamw")
    for stage in (("step", 4), ("build", 1), ("step", 1)):
        assert job.attempt(fail_at=stage).code == 0
        (record,) = job.records.values()
        assert (record["status"], record["reason"]) == ("failed", "RuntimeError: the GPU fell off the bus")
    again = job.attempt()
    assert "resuming from step 3" in again.log
    assert job.digests == digests(STUDY, "adamw")
    assert job.left_behind == []
