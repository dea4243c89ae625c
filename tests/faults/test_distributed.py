"""Distributed training has the losses of one process, whichever process is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import folders

STUDY = """
title: Together
seeds: 1
processes: {processes}
recipe:
  {{optimizer: adamw, learning_rate: 0.002, epochs: {epochs}, batch_size: 32, train_size: 512, ema: 0.9, mixup: 0.2,
   label_smoothing: 0.1, accumulate: {parts}}}
methods:
  vanilla:
  droppath: {{rate: 0.5}}
  residual_droppath: {{rate: 0.5}}
grids:
  - {{datasets: [digits], architectures: [vit_micro]}}
"""
# Images that are streamed: kept in a folder, decoded and augmented in processes beside each of the two.
STREAMED = STUDY.replace("train_size: 512", "resized_crop: 0.3, randaugment: rand-m9-mstd0.5").replace(
    "datasets: [digits]", "datasets: [small]"
)
COMPILED = """
title: Compiled
seeds: 1
processes: {processes}
recipe: {{learning_rate: 0.02, epochs: {epochs}, batch_size: 50, compile: true, accumulate: {parts}}}
methods:
  vanilla:
  residual_droppath: {{rate: 0.5}}
grids:
  - {{datasets: [spiral], architectures: [mlp8]}}
"""
SECONDS = 180  # timeout
pytestmark = pytest.mark.slow


def start(
    folder: Path, processes: int, *, parts: int = 1, epochs: int = 4, cells: str = "", study: str = STUDY
) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(study.format(processes=processes, parts=parts, epochs=epochs))
    if study == STREAMED and not (folder / "small").exists():
        folders.write_dataset(folder / "small", train=80)
        folders.declare(folder, sizes={"train": 228, "validation": 12, "test": 12})
    command = [sys.executable, "-m", "rdp.cli", "train", "small.yaml", *cells.split()]
    given = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = os.environ | {"RDP_CHECKPOINT_SECONDS": "0", "RDP_DATA": str(folder)}
    return subprocess.Popen(command, **given, env=environment, start_new_session=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    output = process.communicate(timeout=SECONDS)[0]
    return process.returncode, output


def records(folder: Path) -> dict[str, dict]:
    """The records by method."""
    found = (json.loads(path.read_text()) for path in folder.glob("results/store/*/seed-*/record.json"))
    return {record["spec"]["method"]: record for record in found}


def workers(process: subprocess.Popen) -> list[int]:
    """The processes that train, in the order of their start, the first of them first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = path.with_name("cmdline").read_text()
        except OSError:
            continue
        if parent == process.pid and "spawn_main" in command:
            found.append(int(path.parent.name))
    return sorted(found)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def in_training(folder: Path) -> bool:
    return bool(list(folder.glob("results/store/*/attempts/*/checkpoint-*")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, dict]:
    """What two processes make of each method."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = finish(start(folder, 2))
    assert code == 0, output
    return records(folder)


def test_two_processes_train_like_one_with_two_microbatches(undisturbed, tmp_path):
    code, output = finish(start(tmp_path, 1, parts=2))
    assert code == 0, output
    alone = records(tmp_path)
    assert alone.keys() == undisturbed.keys()
    for method, record in undisturbed.items():
        two, one = record["numbers"], alone[method]["numbers"]
        for a, b in zip(two["history"], one["history"], strict=True):
            assert a == pytest.approx(b, abs=1e-6), method
        assert two["test_accuracy"] == pytest.approx(one["test_accuracy"], abs=1e-6)
        assert record["identity"]["spec"] != alone[method]["identity"]["spec"]


def test_two_processes_train_compiled_networks_like_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    found = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        code, output = finish(start(folder, processes, parts=2 // processes, study=COMPILED))
        assert code == 0, output
        found[processes] = records(folder)
    assert len(found[1]) == len(found[2]) == 2
    for method, record in found[1].items():
        assert record["status"] == found[2][method]["status"] == "completed"
        for a, b in zip(record["numbers"]["history"], found[2][method]["numbers"]["history"], strict=True):
            # Running statistics, and with them validation, are those of the first process.
            assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-4), method


@pytest.mark.parametrize("rank", [0, 1])
def test_training_continues_when_a_process_is_killed(rank, undisturbed, tmp_path):
    process = start(tmp_path, 2, cells="vit_micro/digits/residual_droppath")
    until(lambda: in_training(tmp_path) and len(workers(process)) == 2)
    os.kill(workers(process)[rank], signal.SIGKILL)
    code, output = finish(process)
    assert code == 0, output
    record = records(tmp_path)["residual_droppath"]
    assert record["telemetry"]["resumed_at"], output
    assert record["digest"] == undisturbed["residual_droppath"]["digest"]


def test_a_stopped_job_leaves_a_checkpoint_and_no_process(undisturbed, tmp_path):
    process = start(tmp_path, 2, cells="vit_micro/digits/residual_droppath")
    until(lambda: in_training(tmp_path) and len(workers(process)) == 2)
    found = workers(process)
    process.terminate()
    code, output = finish(process)
    assert code == 143, output
    assert not any(Path(f"/proc/{pid}").exists() for pid in found)
    assert in_training(tmp_path)
    code, output = finish(start(tmp_path, 2, cells="vit_micro/digits/residual_droppath"))
    assert (code, "resuming from step" in output) == (0, True), output
    assert records(tmp_path)["residual_droppath"]["digest"] == undisturbed["residual_droppath"]["digest"]


def test_the_processes_of_a_killed_job_end(tmp_path):
    process = start(tmp_path, 2, epochs=2000, cells="vit_micro/digits/vanilla")
    until(lambda: in_training(tmp_path) and len(workers(process)) == 2)
    found = workers(process)
    process.kill()
    process.communicate(timeout=SECONDS)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found))


def test_streamed_images_are_divided_among_processes_and_read_again_after_a_kill(tmp_path):
    method = "residual_droppath"
    found = {}
    for name, how in {"two": {"processes": 2}, "one": {"processes": 1, "parts": 2}}.items():
        code, output = finish(start(tmp_path / name, **how, study=STREAMED, cells=f"vit_micro/small/{method}"))
        assert code == 0, output
        found[name] = records(tmp_path / name)[method]
    pairs = zip(found["two"]["numbers"]["history"], found["one"]["numbers"]["history"], strict=True)
    assert all(a == pytest.approx(b, abs=1e-6) for a, b in pairs)
    process = start(tmp_path / "killed", 2, study=STREAMED, cells=f"vit_micro/small/{method}")
    until(lambda: in_training(tmp_path / "killed") and len(workers(process)) == 2)
    os.kill(workers(process)[1], signal.SIGKILL)
    code, output = finish(process)
    assert code == 0, output
    killed = records(tmp_path / "killed")[method]
    assert killed["telemetry"]["resumed_at"], output
    assert killed["digest"] == found["two"]["digest"]
