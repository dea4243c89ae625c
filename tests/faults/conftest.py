"""Jobs that are killed, stopped or fail, and the files that they leave."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import ROOT, finished, project  # noqa: F401 (fixtures)

STAGES = ("load", "build", "train", "checkpoint", "evaluate", "weights", "commit", "receipt")  # of a job, in order
# Batch norm, momentum and the moments of AdamW, masks, frozen units and orthogonal coders; two epochs of two steps.
STUDY = """
title: Small enough to be killed a hundred times
seeds: 1
recipe: {learning_rate: 0.02}
methods:
  vanilla:
  droppath: {rate: 0.2}
  residual_droppath: {rate: 0.5}
  pnnh:
  adamw: {method: residual_droppath, rate: 0.5, recipe: {optimizer: adamw, learning_rate: 0.001}}
grids:
  - {datasets: [digits], architectures: [resnet20], recipe: {epochs: 2, batch_size: 32, train_size: 64}}
"""
# What files change does not depend on the network: the smallest there is.
TINY = """
title: Small enough to be killed at every change of a file
seeds: 1
recipe: {learning_rate: 0.02}
methods:
  residual_droppath:
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {epochs: 1, batch_size: 100, train_size: 300}}
"""


@dataclass(frozen=True)
class Attempt:
    """Result of one attempt at a job.

    Attributes:
        code: its exit code; negative: the signal that ended it.
        events: the stages and changes of the file system that it reported.
        log: output of this attempt and those before it in the same folder.
    """

    code: int
    events: list[list[Any]]
    log: str

    @cached_property
    def stages(self) -> list[str]:
        """The stages it reached, in order."""
        return [row[1] for row in self.events if row[0] == "stage" and row[1] != "step"]

    @cached_property
    def changes(self) -> list[str]:
        """The changes of the file system that it started, in order, without names of attempts and processes."""
        names = [f"{row[1]} {row[2]}" for row in self.events if row[0] == "operation"]
        names = [re.sub(r"attempts/seed-0000-[^/]*?(-replaced)?(?=/|$)", r"attempts/ATTEMPT\1", n) for n in names]
        return [re.sub(r"\.[0-9a-f]{8}\.part$", ".part", re.sub(r"store/[^/]+", "CELL", n)) for n in names]

    def seconds(self, stage: str) -> float:
        """Duration of a stage, from the first time it is reached."""
        rows = [row for row in self.events if row[0] == "stage" and row[1] != "step"]
        times = [row[-1] for row in rows]
        first = [row[1] for row in rows].index(stage)
        last = [row[1] for row in rows].index("evaluate") if stage == "train" else first + 1
        return times[last] - times[first]


@dataclass(frozen=True)
class Job:
    """The runs of one method of a study, in a folder of their own."""

    server: "Forks"
    folder: Path
    study: Path
    method: str

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def attempt(
        self,
        *,
        stage: tuple[str, int] | None = None,
        after: float = 0.0,
        signal: int = 9,
        kill_at: int | None = None,
        half: bool = False,
        **more: Any,
    ) -> Attempt:
        """Start or resume the job, and wait for its end.

        Args:
            stage: the stage, and how often it is reached, at which to send a signal.
            after: delay of the signal, in seconds.
            signal: its number; by default SIGKILL.
            kill_at: index of the change of the file system before which it kills itself.
            half: also truncate the file that it was about to sync to half its length.
            more: ``fill_at``, ``free_at`` (with ``ballast``) and ``fail_at``, as `stage`; ``checkpoint_seconds``.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "log"
        order = {"study": str(self.study), "method": self.method, "results": str(self.results), "log": str(log)}
        order |= {"signal_at": stage, "after": after, "signal": signal, "kill_at": kill_at, "half": half}
        order |= {"fill_at": None, "free_at": None, "fail_at": None, "checkpoint_seconds": 0}
        answer = self.server.ask(order | more)
        return Attempt(answer["code"], answer["events"], log.read_text())

    @property
    def records(self) -> dict[str, Any]:
        """The record of each run that has a receipt, by name; each verified by the digest in its receipt."""
        records = {}
        for path in sorted((self.results / "store").glob("*/seed-*.json")):
            receipt, record = (json.loads(p.read_text()) for p in (path, path.with_suffix("") / "record.json"))
            assert receipt["digest"] == record["digest"]
            records[receipt["run"]] = record
        return records

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each run's record."""
        return {run: record["digest"] for run, record in self.records.items()}

    @property
    def left_behind(self) -> list[str]:
        """Paths in the store other than receipts, records and their files."""
        whole = r"[^/]+/seed-\d{4}(\.json|/record\.json|/predictions\.safetensors|/weights\.safetensors)"
        store = self.results / "store"
        files = [str(path.relative_to(store)) for path in store.rglob("*") if not path.is_dir()]
        attempts = [str(path.relative_to(store)) for path in store.glob("*/attempts/*")]
        return attempts + [name for name in files if not re.fullmatch(whole, name)]

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Checkpoints by step, in order."""
        checkpoints = {int(path.stem.rpartition("-")[2]): path for path in self.results.glob("store/**/checkpoint-*")}
        return dict(sorted(checkpoints.items()))

    @property
    def furthest(self) -> int:
        """The step of the last checkpoint; -1 before the first."""
        return max(self.checkpoints, default=-1)


class Forks:
    """The process that forks attempts, see `tests.faults.forks`."""

    def __init__(self) -> None:
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        one_thread["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks"],
            cwd=ROOT,
            env=os.environ | one_thread,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait() == 0


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    server = Forks()
    yield server
    server.close()


@pytest.fixture
def make_job(forks: Forks, tmp_path: Path) -> Any:
    """Make a job in a folder of its own: folder name, text of the study, name of the method."""

    def make(name: str, study: str = TINY, method: str = "residual_droppath") -> Job:
        file = tmp_path / f"study{abs(hash(study))}.yaml"
        file.write_text(study)
        return Job(forks, tmp_path / name, file, method)

    return make
