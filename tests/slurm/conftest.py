"""The cluster, and a project whose snakemake runs on it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rdp.store import Store
from tests.slurm.cluster import Cluster, obstacle, wait
from tests.workflow.conftest import Project, copy_project, once

# Some seconds of training, with a checkpoint every tenth of one: whenever something happens, there is one.
LONG = """
title: Long enough to be hit
seeds: 1
methods:
  residual_droppath:
grids:
  - {datasets: [digits], architectures: [resnet20], recipe: {epochs: 16, batch_size: 64, learning_rate: 0.05}}
"""


@dataclass
class Attempt:
    """One attempt at a run, which trains at this moment."""

    folder: Path
    pid: int

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that trains: SIGSTOP makes a run as long as a test needs it."""
        os.kill(self.pid, number)

    def ended(self) -> bool:
        """Whether the process is no more."""
        try:
            return not Path(f"/proc/{self.pid}/cmdline").read_bytes()  # of a zombie nothing is left but its number
        except OSError:
            return True


class Workflow:
    """A project of its own, and the snakemake that runs it on the cluster."""

    def __init__(self, project: Project, cluster: Cluster) -> None:
        self.project, self.cluster = project, cluster
        path = f"{cluster.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = cluster.environment | {"PATH": path, "RDP_CHECKPOINT_SECONDS": "0.1"}
        self.snakemake: subprocess.Popen[bytes] | None = None
        self.met: set[Path] = set()

    def start(self, *arguments: str) -> None:
        """Start snakemake on the cluster; by default to train the long study."""
        arguments = arguments or ("--until", "train_cell", "--config", "study=long")
        root = self.project.root
        env = self.environment | {"PYTHONPATH": str(root), "HOME": str(root)}
        with (root / "snakemake.log").open("ab") as log:
            command = ["snakemake", "--profile", "slurm", *arguments]
            self.snakemake = subprocess.Popen(command, cwd=root, env=env, stdout=log, stderr=log, process_group=0)

    def end(self) -> int:
        """Wait for snakemake's end; its exit status."""
        assert self.snakemake is not None
        wait(lambda: self.snakemake.poll() is not None, 900, "snakemake's end", self.log)
        return self.snakemake.returncode

    def kill(self) -> None:
        """Kill snakemake and what it started on this machine; its jobs go on."""
        if self.snakemake is not None and self.snakemake.poll() is None:
            os.killpg(self.snakemake.pid, signal.SIGKILL)
            self.snakemake.wait()

    def attempt(self) -> Attempt:
        """The next attempt at the run, as soon as it has a checkpoint of its own."""

        def found() -> list[Path]:
            known = {path.parent for path in self.project.root.glob("results/store/*/attempts/*/checkpoint-*")}
            return [path for path in known - self.met if (path / "progress.json").exists()]

        wait(found, 300, "an attempt in training", self.log)
        (folder,) = found()
        self.met.add(folder)
        return Attempt(folder, json.loads((folder / "progress.json").read_text())["pid"])

    def job(self) -> dict[str, str]:
        """The one job that runs."""
        (job,) = self.jobs("RUNNING")
        return job

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """This project's jobs, in the order of submission."""
        return [job for job in self.cluster.jobs(*states) if job["folder"] == str(self.project.root)]

    def log(self) -> str:
        """What snakemake told, and the training job after it."""
        logs = [self.project.root / "snakemake.log", *self.project.root.glob("results/logs/train_cell/*.log")]
        return "\n".join(path.read_text(errors="replace") for path in logs if path.exists())

    def ends_in(self, numbers: dict[str, str]) -> bool:
        """Whether snakemake ends well, with these digests, in whole records, and nothing is left of any attempt."""
        assert self.end() == 0, self.log()
        store = Store(self.project.root / "results")
        for run in numbers:
            record = store.read_finished(run)
            assert record is not None
            assert store.find(run, record.identity) == record  # all of its files are as they were sealed
        assert not list(store.root.glob("*/attempts/*"))
        return self.project.digests() == numbers


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if reason := obstacle():
        pytest.skip(reason)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def nothing_left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test did: the next finds both nodes idle."""
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").clear()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The long study, trained on this machine without Slurm. Tests must leave it as it is."""

    def make(folder: Path) -> None:
        project = copy_project(folder)
        (folder / "config" / "studies" / "long.yaml").write_text(LONG)
        ended = project.snakemake("--until", "train_cell", study="long")
        assert ended.returncode == 0, ended.stdout + ended.stderr

    return Project(once(tmp_path_factory, "undisturbed", make))


@pytest.fixture
def workflow(cluster: Cluster, undisturbed: Project, tmp_path: Path) -> Iterator[Workflow]:
    """The same project with nothing trained, and its data ready."""
    project = Project(shutil.copytree(undisturbed.root, tmp_path / "project", symlinks=True))
    for folder in ("store", "logs"):
        shutil.rmtree(project.root / "results" / folder, ignore_errors=True)
    workflow = Workflow(project, cluster)
    try:
        yield workflow
    finally:
        workflow.kill()
