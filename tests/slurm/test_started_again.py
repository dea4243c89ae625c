"""Restarted jobs and workflows leave one complete record per run."""

import signal

import pytest

from tests.slurm.cluster import Cluster, wait
from tests.slurm.conftest import Workflow
from tests.workflow.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def test_a_requeued_job_that_is_then_cancelled_leaves_one_record(
    cluster: Cluster, undisturbed: Project, workflow: Workflow
) -> None:
    workflow.start()
    workflow.attempt()
    first = workflow.job()["id"]
    cluster.run("scontrol", "requeue", first)
    workflow.attempt()  # of the same job, which Slurm has started again
    assert workflow.job()["id"] == first
    cluster.run("scancel", first)
    assert workflow.ends_in(undisturbed.digests())
    assert [job["state"] for job in workflow.jobs()] == ["CANCELLED", "COMPLETED"]
    assert "resuming from step" in workflow.log()


def test_a_killed_snakemake_is_started_again_beside_its_jobs(
    cluster: Cluster, undisturbed: Project, workflow: Workflow
) -> None:
    workflow.start()
    attempt = workflow.attempt()
    attempt.send(signal.SIGSTOP)
    workflow.kill()
    workflow.start("--unlock")
    assert workflow.end() == 0
    workflow.start()
    wait(lambda: "another process is training this run, waiting" in workflow.log(), 240, "a second job at the same run")
    assert len(workflow.jobs("RUNNING")) == 2
    attempt.send(signal.SIGCONT)
    assert workflow.ends_in(undisturbed.digests())
    assert "already completed, skipped" in workflow.log()
    assert [job["state"] for job in workflow.jobs()] == ["COMPLETED", "COMPLETED"]
