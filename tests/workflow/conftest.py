"""A copy of the project with a miniature study, run once, which tests may change."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

# Every architecture family, dataset kind and method, in seconds.
MINIATURE = """
title: Miniature
seeds: 2
recipe: {learning_rate: 0.02, channels_last: true}
methods:
  vanilla:
  droppath: {rate: 0.2}
  residual_droppath: {rate: 0.2}
  plain:
  pnnh:
probes: [surviving_neurons]
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {epochs: 2, batch_size: 50}}
  - datasets: [digits]
    architectures: [resnet20]
    methods: [vanilla, residual_droppath]
    recipe: {epochs: 1, batch_size: 32, train_size: 64}
"""


# A dry run that lists each job with its files, by Snakemake's own logger in place of the profile's.
DRY_RUN = ("snakemake", "--workflow-profile", "none", "--rerun-triggers", "mtime", "params", "input", "-p", "-n")


@dataclass
class Project:
    """A checkout of its own, with what it made so far."""

    root: Path

    @property
    def study(self) -> Path:
        return self.root / "config" / "studies" / "mini.yaml"

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment on this copy's code."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        # PYTHONPATH comes before the installed project, so the copy's modules are the ones imported.
        env = {"PATH": path, "PYTHONPATH": str(self.root), "HOME": str(self.root), **environment}
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, timeout=300)

    def snakemake(self, *arguments: str, study: str = "mini", cores: int = 2) -> subprocess.CompletedProcess[str]:
        return self.run("snakemake", "--cores", str(cores), *arguments, "--config", f"study={study}")

    def planned(self, study: str = "mini") -> Counter[str]:
        """Jobs that a dry run would start, by rule."""
        done = self.run(*DRY_RUN, "--config", f"study={study}")
        assert done.returncode == 0, done.stdout + done.stderr
        return Counter(re.findall(r"^(?:local)?rule (\w+):$", done.stdout + done.stderr, re.M)) - Counter(["all"])

    def digests(self, results: str = "results") -> dict[str, str]:
        """The digest of every run's record."""
        store = self.root / results / "store"
        receipts = [json.loads(path.read_text()) for path in sorted(store.glob("*/seed-*.json"))]
        return {receipt["run"]: receipt["digest"] for receipt in receipts}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} no longer holds {old!r}"
        path.write_text(text.replace(old, new))

    def narrow(self, *methods: str) -> None:
        """Keep these methods in the miniature study: most of a small run goes into the start of its jobs."""
        study = yaml.safe_load(self.study.read_text())
        study["methods"] = {name: study["methods"][name] for name in methods}
        for grid in study["grids"]:
            if "methods" in grid:
                grid["methods"] = [name for name in grid["methods"] if name in methods]
        self.study.write_text(yaml.safe_dump(study, sort_keys=False))


def copy_project(target: Path) -> Project:
    """The files that git tracks or would, without what was made from them."""
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines():
        source = ROOT / name
        if source.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
    for rules in (target / "workflow" / "rules").glob("*.smk"):
        # A dry run lists the files and resources of a job only if its rule has no message.
        rules.write_text(re.sub(r"^ +message:\n.*\n", "", rules.read_text(), flags=re.M))
    (target / "config" / "studies" / "mini.yaml").write_text(MINIATURE)
    return Project(target)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made once for a session, whichever of its workers wants it first."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    done = folder / f"{name}.done"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(folder / name)
            done.touch()
    return folder / name


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The miniature study, run to its report. Tests must leave it as it is."""

    def make(folder: Path) -> None:
        done = copy_project(folder).snakemake()
        assert done.returncode == 0, done.stdout + done.stderr

    return Project(once(tmp_path_factory, "finished", make))


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A finished copy that a test may change; Snakemake's own memory of it comes along."""
    target = tmp_path / "project"
    shutil.copytree(finished.root, target, symlinks=True)
    return Project(target)
