"""`--profile local-gpu` gives each training job its own device. The devices here are only names."""

import re
from pathlib import Path

import pytest

from tests.workflow.conftest import DRY_RUN, Project, copy_project

FAKE = ("fake-0", "fake-1")


@pytest.mark.slow
def test_each_training_job_has_its_own_device(tmp_path: Path, finished: Project) -> None:
    project = copy_project(tmp_path)
    project.edit("profiles/local-gpu/config.yaml", "gpu: 1", f"gpu: {len(FAKE)}")
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(FAKE), "TMPDIR": str(tmp_path)}
    command = ("snakemake", "--profile", "profiles/local-gpu", "--cores", "4", "--until", "train_cell")
    project.narrow("vanilla", "residual_droppath")
    done = project.run(*command, "--config", "study=mini", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    # Without a GPU that torch can use, `auto` trains on the CPU, whatever devices a job holds.
    assert len(project.digests()) == 8
    assert project.digests().items() <= finished.digests().items()
    logs = [path.read_text() for path in project.root.glob("results/logs/train_cell/*.log")]
    held = [re.search(r"^using GPU (.*)$", log, re.M).group(1) for log in logs]
    assert set(held) == set(FAKE)
    # Snakemake never starts more than there are, so no job had to wait for another's device.
    assert not any("GPUs are in use" in log for log in logs)


@pytest.mark.slow
def test_jobs_share_gpus_that_snakemake_does_not_count(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    done = project.run(*DRY_RUN, "--config", "study=mini")
    assert "--gpus 0" in done.stdout
    assert "--gpus 1" not in done.stdout
    insisting = project.run(*DRY_RUN, "--config", "study=mini", "device=cuda")
    assert "--gpus 1" in insisting.stdout
    assert "--gpus 0" not in insisting.stdout
