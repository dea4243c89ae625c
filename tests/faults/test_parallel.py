"""Parallel runs: the same numbers, and an orderly end whichever process is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

STUDY = """
title: Side by side
seeds: 4
recipe: {epochs: 3, batch_size: 25, train_size: 500}
tune: {learning_rates: [0.01, 0.03], recipe: {epochs: 1}}
methods: {vanilla: , residual_droppath: }
grids:
  - {datasets: [spiral], architectures: [mlp8]}
"""
LONG = STUDY.replace("epochs: 3", "epochs: 4000")
RDP = [sys.executable, "-m", "rdp.cli", "train", "small.yaml", "mlp8/spiral/vanilla"]
SECONDS = 120  # timeout


def start(folder: Path, cores: int, content: str = STUDY) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(content)
    command = [*RDP, "--cores", str(cores)]
    given = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, **given, start_new_session=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    output = process.communicate(timeout=SECONDS)[0]
    return process.returncode, output


def digests(folder: Path) -> dict[str, str]:
    """Of all runs, those of the sweep too."""
    found = folder.glob("results/store/*/seed-*/record.json")
    return {str(path.relative_to(folder)): json.loads(path.read_text())["digest"] for path in sorted(found)}


def left_behind(folder: Path) -> list[Path]:
    return list(folder.glob("results/store/*/attempts/*"))


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def trained_on(folder: Path) -> set[int]:
    """The processes that have a run of the study itself in training, by what they tell of it."""
    found = set()
    for path in folder.glob("results/store/*/attempts/seed-0*/progress.json"):
        row = json.loads(path.read_text())
        if row["steps"] > 1000 and not row.get("stopped"):
            found.add(row["pid"])
    return found


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def in_training(tmp_path) -> Iterator[subprocess.Popen]:
    """A job with two long runs in training, each in a process of its own."""
    process = start(tmp_path, 2, LONG)
    until(lambda: len(trained_on(tmp_path)) == 2)
    yield process
    for pid in {process.pid, *trained_on(tmp_path)}:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_the_number_of_processes_changes_no_number(tmp_path: Path) -> None:
    code, output = finish(start(tmp_path / "one", 1))
    assert code == 0, output
    code, output = finish(start(tmp_path / "three", 3))
    assert code == 0, output
    assert len(digests(tmp_path / "one")) == 4 + 4  # seeds, and the sweep's two rates with two
    assert digests(tmp_path / "three") == digests(tmp_path / "one")
    assert not left_behind(tmp_path / "three")
    assert len(list((tmp_path / "three").glob("results/store/*/seed-000?.json"))) == 4


@pytest.mark.slow
def test_sigterm_ends_all_of_them_with_a_checkpoint(tmp_path: Path, in_training: subprocess.Popen) -> None:
    children = trained_on(tmp_path)
    in_training.send_signal(signal.SIGTERM)
    code, output = finish(in_training)
    assert code == 143, output
    assert "Traceback" not in output
    assert not any(map(alive, children))
    assert len(list(tmp_path.glob("results/store/*/attempts/*/checkpoint-*"))) >= 2
    assert not list(tmp_path.glob("results/store/*/seed-000?.json"))


@pytest.mark.slow
def test_ctrl_c_ends_all_of_them_with_a_checkpoint(tmp_path: Path, in_training: subprocess.Popen) -> None:
    children = trained_on(tmp_path)
    os.killpg(in_training.pid, signal.SIGINT)  # as a terminal does
    code, output = finish(in_training)
    assert code == 130, output
    assert "Traceback" not in output
    assert not any(map(alive, children))
    assert len(list(tmp_path.glob("results/store/*/attempts/*/checkpoint-*"))) >= 2


@pytest.mark.slow
def test_processes_end_when_the_job_is_killed(tmp_path: Path, in_training: subprocess.Popen) -> None:
    children = trained_on(tmp_path)
    in_training.kill()
    until(lambda: not any(map(alive, children)))
    assert len(list(tmp_path.glob("results/store/*/attempts/*/checkpoint-*"))) >= 2


@pytest.mark.slow
def test_a_killed_process_is_reported_and_the_others_train_on(tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    content = STUDY.replace("epochs: 3", "epochs: 150")
    assert finish(start(reference, 1, content))[0] == 0
    process = start(tmp_path / "killed", 2, content)
    until(lambda: len(trained_on(tmp_path / "killed")) == 2)
    os.kill(min(trained_on(tmp_path / "killed")), signal.SIGKILL)
    code, output = finish(process)
    assert code == 2, output
    assert output.strip().splitlines()[-1] == "rdp: 1 of 2 processes ended early (status -9), see above"
    assert len(digests(tmp_path / "killed")) == 4 + 3
    code, output = finish(start(tmp_path / "killed", 2, content))
    assert code == 0, output
    assert digests(tmp_path / "killed") == digests(reference)
    assert not left_behind(tmp_path / "killed")
