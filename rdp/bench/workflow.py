"""Benchmark `workflow`: the time of planning, Snakemake and collecting for studies of up to 10,000 runs.

The studies are synthetic: real records in a real store, whose numbers mean nothing. Nothing is trained.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rdp import study
from rdp.bench.measuring import Benchmark, Setting, table
from rdp.data import prepared
from rdp.spec import RunSpec
from rdp.store import Identity, RunRecord, Store, fingerprint
from rdp.store.record import Numbers, Telemetry
from rdp.utils import distribution, files, paths

SIZES = (100, 1_000, 10_000)  # runs
COMMANDS = {  # by the fields of `Growth`
    "plan": "rdp plan",
    "dry_run": "snakemake -n, nothing done",
    "collect": "rdp collect",
    "collect_again": "again, nothing new",
    "nothing": "snakemake, all done",
}
_SMOKE = (20,)
_SEEDS, _EPOCHS, _TENSORS = 50, 30, 300  # of a cell, of a history, and of the checksums in a record
_NETWORKS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
_CORES = "2"


@dataclass(frozen=True)
class Growth:
    """Seconds of each command for one size of study."""

    runs: int
    cells: int
    plan: float  # ``rdp plan`` if all runs are done
    dry_run: float  # ``snakemake --dry-run`` if no run is done
    collect: float  # ``rdp collect`` of all records
    collect_again: float  # ``rdp collect`` if no record is new
    nothing: float  # ``snakemake`` if nothing is to be done


def growth(runs: int) -> Growth:
    """Time the commands for a study with this number of runs."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plan = _study(root, runs)
        for dataset in {cell.dataset for cell in plan.cells}:
            prepared.prepare(dataset, root / "results")
        seconds = {"dry_run": _seconds(root, "snakemake", "--dry-run")}
        store = Store(root / "results")
        for spec in plan.specs:
            _record(store, spec)
        seconds["plan"] = _seconds(root, "rdp", "plan", str(plan.file))
        seconds["collect"] = _seconds(root, "rdp", "collect", str(plan.file))
        seconds["collect_again"] = _seconds(root, "rdp", "collect", str(plan.file))
        tables = [str(path) for path in sorted((root / "results" / plan.name).glob("*.parquet"))]
        # Snakemake keeps metadata of every file and reads all of it when it starts.
        _seconds(root, "snakemake", "--touch", "--forceall", *tables)
        seconds["nothing"] = _seconds(root, "snakemake", *tables)
        return Growth(runs=sum(1 for _ in plan.specs), cells=len(plan.cells), **seconds)


def _study(root: Path, runs: int) -> study.Plan:
    """Write a study of cells with `_SEEDS` seeds each on digits, and return its plan."""
    seeds = min(_SEEDS, runs // 2)
    networks = _NETWORKS[: max(1, runs // seeds // 2)]
    rates = [0.1 + 0.01 * i for i in range(runs // seeds // len(networks) - 1)]
    methods = {f"rdp_{i}": {"method": "residual_droppath", "rate": round(rate, 2)} for i, rate in enumerate(rates)}
    content = {
        "title": "A synthetic study",
        "seeds": seeds,
        "recipe": {"epochs": _EPOCHS},
        "methods": {"vanilla": None} | methods,
        "grids": [{"datasets": ["digits"], "architectures": list(networks)}],
    }
    file = root / "many.yaml"
    files.write_json(file, content)  # JSON is YAML
    return study.load(str(file))


def _record(store: Store, spec: RunSpec) -> None:
    """Store a record as large as a real one."""
    epoch: dict[str, Any] = {"step": 100, "train_loss": 1 / 3, "train_accuracy": 2 / 3, "validation_loss": 1 / 3}
    history = [{"epoch": i + 1, **epoch, "validation_accuracy": 1 / (i + 2)} for i in range(_EPOCHS)]
    weights = {f"stages.{i // 10}.{i % 10}.branch.weight": f"{i:016x}" for i in range(_TENSORS)}
    numbers: dict[str, Any] = {"test_accuracy": 0.5, "test_loss": 2 / 3, "steps": 3000, "learning_rate": 0.1}
    numbers |= {"norm_gain": 1.0, "history": history, "weights": weights}
    telemetry: dict[str, Any] = {"epoch_seconds": [1.0] * _EPOCHS, "seconds": 60.0, "device": "cpu"}
    telemetry |= {"process_peak_bytes": 10**9, "started": "2000-01-01T00:00:00Z"}
    attempt = store.new_attempt(spec.run)
    record = RunRecord(
        spec=spec.model_dump(mode="json"),
        identity=Identity(spec=spec.spec_digest, data="0" * 64, code=fingerprint.code_of(spec), stack="0" * 64),
        status="completed",
        numbers=Numbers(**numbers),
        telemetry=Telemetry(**telemetry),
    )
    store.write_receipt(spec.run, store.commit(spec.run, attempt, record))


def _seconds(root: Path, command: str, *arguments: str) -> float:
    words = [str(Path(sys.executable).with_name(command)), *arguments]
    if command == "snakemake":
        words += ["--snakefile", str(paths.snakefile()), "--cores", _CORES, "--quiet", "all"]
        words += ["--config", f"study={root / 'many.yaml'}"]
    environment = os.environ | {"RDP_RESULTS": str(root / "results"), "RDP_OFFLINE": "1"}
    started = time.perf_counter()
    subprocess.run(words, cwd=root, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def run(setting: Setting) -> Benchmark:
    """Time `SIZES` once each; raise `UserError` if Snakemake is not installed."""
    if find_spec("snakemake") is None:
        raise distribution.missing_extra("the benchmark", "workflow")
    rows = [growth(runs) for runs in (_SMOKE if setting.smoke else SIZES)]
    title = "Seconds by number of runs"
    shown = table(title, "runs", "cells", *COMMANDS.values())
    for row in rows:
        shown.add_row(f"{row.runs:,}", str(row.cells), *(f"{getattr(row, name):.1f}" for name in COMMANDS))
    return Benchmark(title, rows, shown)
