"""Training jobs that are stopped give the numbers of undisturbed ones."""

import signal

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.conftest import Workflow
from tests.workflow.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def test_a_job_that_ran_out_of_time_resumes_with_more_time(
    cluster: Cluster, undisturbed: Project, workflow: Workflow
) -> None:
    workflow.start()
    workflow.attempt().send(signal.SIGSTOP)  # it would be done before Slurm looks at the clock, every half minute
    first = workflow.job()
    cluster.run("scontrol", "update", f"JobId={first['id']}", "TimeLimit=0")
    assert workflow.ends_in(undisturbed.digests())
    timed_out, completed = workflow.jobs()
    assert [timed_out["state"], completed["state"]] == ["TIMEOUT", "COMPLETED"]
    assert minutes(completed["limit"]) > minutes(first["limit"])
    assert "resuming from step" in workflow.log()


def minutes(limit: str) -> int:
    """A time limit as squeue tells it, such as 2-04:00:00."""
    days, _, clock = limit.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return int(days or 0) * 1440 + seconds // 60
