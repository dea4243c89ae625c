"""The resources that jobs request from Slurm: a GPU, and the site's partition, account and options."""

from pathlib import Path

import pytest
import torch

from tests.slurm.cluster import DEVICES, Cluster, wait
from tests.slurm.conftest import Workflow
from tests.workflow.conftest import copy_project

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

ON_GPU = """
title: On a GPU
seeds: 1
device: cuda
methods:
  vanilla:
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {epochs: 1, batch_size: 50}}
"""
SITE = {"slurm_partition": "other", "slurm_account": "lab", "slurm_extra": "--nice=7"}


@pytest.fixture(scope="module")
def failed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A study that insists on a GPU, on a site with lines of its own; no GPU of this cluster is one to torch."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that torch can use")
    project = copy_project(tmp_path_factory.mktemp("gpu") / "project")
    (project.root / "config" / "studies" / "gpu.yaml").write_text(ON_GPU)
    for name, value in SITE.items():
        project.edit("profiles/slurm/config.yaml", f'{name}: ""', f'{name}: "{value}"')
    workflow = Workflow(project, cluster)
    workflow.start("--retries", "0", "--until", "train_cell", "--config", "study=gpu")
    assert workflow.end() == 1, workflow.log()
    return workflow


def test_a_study_that_requires_a_gpu_requests_one_per_job(cluster: Cluster, failed: Workflow) -> None:
    (job,) = failed.jobs()
    assert "TresPerJob=gres:gpu:1" in cluster.run("scontrol", "show", "job", job["id"]).split()


def test_the_partition_account_and_options_of_a_site_reach_slurm(cluster: Cluster, failed: Workflow) -> None:
    (job,) = failed.jobs()
    assert (job["partition"], job["account"]) == (SITE["slurm_partition"], SITE["slurm_account"])
    assert "Nice=7" in cluster.run("scontrol", "show", "job", job["id"]).split()


def test_a_gpu_that_torch_cannot_use_gives_one_line(failed: Workflow) -> None:
    (job,) = failed.jobs()
    assert job["state"] == "FAILED"
    (log,) = failed.project.root.glob("results/logs/train_cell/*.log")
    assert log.read_text() == "rdp: device: cuda requested, but torch can use no GPU on this machine\n"


def test_jobs_with_a_gpu_run_one_per_node_with_its_device_set(cluster: Cluster, tmp_path: Path) -> None:
    told = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES; sleep 2"
    command = ["sbatch", "--parsable", "--gpus=1", "--mem=100", f"--output={tmp_path}/%j", f"--wrap={told}"]
    submitted = [cluster.run(*command) for _ in range(3)]

    def states() -> list[str]:
        found = {job["id"]: job["state"] for job in cluster.jobs()}
        return [found[job] for job in submitted]

    wait(lambda: "RUNNING" in states(), 120, "a job")
    assert states() == ["RUNNING", "RUNNING", "PENDING"]  # though a node has room for four such jobs but for the GPU
    wait(lambda: states() == ["COMPLETED"] * 3, 120, "three jobs")
    lines = [(tmp_path / job).read_text() for job in submitted]
    assert sorted(lines[:2]) == [f"{node} 0\n" for node in DEVICES]
