"""A small trained and reported study whose results tests tamper with."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdp import audit, study
from rdp.audit.findings import Check
from rdp.cli.app import app
from rdp.store import RunRecord, Store
from rdp.study import Plan
from rdp.utils import files

STUDY = """
title: Audited
seeds: 3
recipe: {epochs: 2, batch_size: 50}
tune: {learning_rates: [0.02, 0.1], norm_gains: [0.5, 1.0], seeds: [1000]}
probes: [surviving_neurons]
methods:
  vanilla:
  residual_droppath: {rate: 0.2}
grids:
  - {datasets: [spiral], architectures: [mlp8]}
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study file and its results."""
    folder = tmp_path_factory.mktemp("audited")
    (folder / "audited.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RDP_RESULTS", str(folder / "results"))
        for command in ("tune", "train", "report"):
            app([command, str(folder / "audited.yaml")], standalone_mode=False)
    return folder


class Case:
    """A copy of the study and its results, with functions that tamper with them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder, folder / "results"
        self.store = Store(self.results)

    @property
    def plan(self) -> Plan:
        return study.load(str(self.folder / "audited.yaml"))

    @property
    def products(self) -> Path:
        return self.results / "audited"

    @property
    def runs(self) -> list[str]:
        return [spec.run for spec in self.plan.specs]

    @property
    def trained(self) -> list[str]:
        """All runs, those of sweeps included."""
        return [spec.run for spec in (*self.plan.sweep.values(), *self.plan.specs)]

    def audit(self, until: str = "report", **options: Any) -> dict[str, Check]:
        """Return the checks up to a named one."""
        checks = {}
        for check in audit.checks(self.plan, self.results, **options):
            checks[check.name] = check
            if check.name == until:
                break
        return checks

    def findings(self, until: str = "report", **options: Any) -> dict[str, list[str]]:
        """Return the findings as lines, by check."""
        checks = self.audit(until, **options)
        return {name: [str(f) for f in check.findings] for name, check in checks.items() if check.findings}

    def forge(self, run: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change a record, and seal it and its receipt again."""
        path = self.store.folder(run) / "record.json"
        content = files.read_json(path)
        del content["seal"], content["digest"]
        change(content)
        record = RunRecord(**content)
        files.write_json(path, record.content())
        self.store.write_receipt(run, record)

    def rdp(self, *arguments: str) -> int:
        """Run a command on the study's results, and return its exit status."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RDP_RESULTS", str(self.results))
            return app([*arguments], standalone_mode=False) or 0


@pytest.fixture
def case(made: Path, tmp_path: Path) -> Case:
    """A fresh copy of the study."""
    return Case(Path(shutil.copytree(made, tmp_path / "case")))
