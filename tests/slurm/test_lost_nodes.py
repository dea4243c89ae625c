"""The loss of a node during training costs time and changes no number."""

import signal

import pytest

from tests.slurm.cluster import Cluster, wait
from tests.slurm.conftest import Workflow
from tests.workflow.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def test_a_lost_node_changes_no_number(cluster: Cluster, undisturbed: Project, workflow: Workflow) -> None:
    workflow.start()
    workflow.attempt()
    before = workflow.job()
    cluster.lose_node(before["node"])
    assert workflow.ends_in(undisturbed.digests())
    assert cluster.state(before["node"]) == "down"
    assert len(workflow.jobs()) == 1, workflow.log()
    (after,) = workflow.jobs()  # Slurm put it back into the queue; Snakemake needed no retry
    assert (after["id"], after["state"]) == (before["id"], "COMPLETED")
    assert after["node"] != before["node"]
    assert "resuming from step" in workflow.log()


def test_an_orphaned_job_beside_its_successor_changes_no_number(
    cluster: Cluster, undisturbed: Project, workflow: Workflow
) -> None:
    workflow.start()
    orphan = workflow.attempt()
    orphan.send(signal.SIGSTOP)  # it would be done before its node is given up
    before = workflow.job()
    cluster.lose_node(before["node"], jobs_too=False)
    for lock in workflow.project.root.glob("results/store/*/*.lock"):
        lock.unlink()  # as on a file system where a lock does not reach from node to node
    successor = workflow.attempt()
    assert orphan.folder.exists()
    orphan.send(signal.SIGCONT)
    assert not successor.ended()
    wait(orphan.ended, 240, "the orphan's end")
    assert workflow.ends_in(undisturbed.digests())
    after, *retries = workflow.jobs()
    assert after["id"] == before["id"]
    assert after["node"] != before["node"]
    # The orphan's Snakemake ends too, and may remove or replace what its successor's waits for. The successor fails
    # then with its record in place, which the retry finds there.
    assert [job["state"] for job in (after, *retries)] in (["COMPLETED"], ["FAILED", "COMPLETED"])
    if retries:
        assert "already completed, skipped" in workflow.log()
