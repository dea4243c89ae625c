"""A study with every kind of cell runs on Slurm, from data to report."""

from collections import Counter
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.conftest import Workflow
from tests.workflow.conftest import copy_project

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

# Every path and method, vectors and images, a sweep, a probe, and the measurement that wants a node for itself.
EVERYTHING = """
title: Everything
seeds: 1
recipe: {learning_rate: 0.02}
probes: [surviving_neurons]
speed_rounds: 10
tune: {learning_rates: [], seeds: [1000], recipe: {epochs: 1}}
methods:
  vanilla:
  droppath: {rate: 0.2}
  residual_droppath: {rate: 0.2}
  plain:
  pnnh:
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {epochs: 2, batch_size: 50}}
  - datasets: [digits]
    architectures: [resnet20]
    methods: [pnnh]
    learning_rates: [0.01, 0.02]
    recipe: {epochs: 1, batch_size: 32, train_size: 64}
"""
STUDY = ("--config", "study=everything")
CELLS, SWEEP = 6, 2  # and one seed each


def test_slurm_gives_the_same_numbers(cluster: Cluster, tmp_path: Path) -> None:
    local, submitted = (copy_project(tmp_path / name) for name in ("local", "submitted"))
    for project in (local, submitted):
        (project.root / "config" / "studies" / "everything.yaml").write_text(EVERYTHING)
    done = local.snakemake("--until", "train_cell", study="everything")
    assert done.returncode == 0, done.stdout + done.stderr

    workflow = Workflow(submitted, cluster)
    workflow.start(*STUDY)
    assert workflow.end() == 0, workflow.log()
    assert submitted.digests() == local.digests()
    assert len(local.digests()) == CELLS + SWEEP
    report = submitted.root / "results" / "everything" / "report"
    assert (report / "index.html").exists()
    assert (report / "paper.pdf").exists()

    jobs = workflow.jobs()
    rules = Counter(job["comment"].partition("_wildcards_")[0].removeprefix("rule_") for job in jobs)
    assert rules["train_cell"] == CELLS
    assert rules["tune_cell"] == rules["measure_probe"] == rules["measure_speed"] == 1
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert {(job["partition"], job["account"]) for job in jobs} == {("main", "(null)")}  # none was named

    workflow.start("--cores", "all", *STUDY)
    assert workflow.end() == 0, workflow.log()
    assert "Nothing to be done" in workflow.log()
    assert workflow.jobs() == jobs
