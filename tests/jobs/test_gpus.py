"""Leases of GPUs: exclusive, and free again after a crash."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rdp.errors import UserError
from rdp.jobs import gpus

HOLD = """
import logging, sys
from rdp.jobs import gpus
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
with gpus.lease(int(sys.argv[1])) as held:
    print("held", *held, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path):
    """Start a process that holds so many of three fake devices until it is told to end."""
    started = []

    def start(count: int = 1, **environment: str) -> subprocess.Popen[str]:
        env = os.environ | {"TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "a,b,c"} | environment
        command = [sys.executable, "-c", HOLD, str(count)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        with process:  # its pipes are closed
            process.wait()


def held(process: subprocess.Popen[str]) -> list[str]:
    """The devices that a process says it holds; waits until it does."""
    for line in process.stdout:
        if line.startswith("held"):
            return line.split()[1:]
    raise AssertionError(process.stderr.read())


def test_parallel_jobs_hold_different_devices(hold):
    assert sorted(name for process in [hold(), hold(), hold()] for name in held(process)) == ["a", "b", "c"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_device_is_free_again_when_its_holder_dies(number, hold):
    first = hold(3)
    assert held(first) == ["a", "b", "c"]
    second = hold(2)
    assert "all 3 GPUs are in use, waiting" in second.stdout.readline()
    first.send_signal(number)
    first.wait()
    assert held(second) == ["a", "b"]


def test_jobs_that_each_need_more_than_half_never_deadlock(hold):
    processes = [hold(2) for _ in range(4)]
    for process in processes:
        process.stdin.close()  # each ends as soon as it has held its two
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]


def test_more_gpus_than_the_machine_has_is_an_error(hold):
    process = hold(4)
    assert process.wait() == 1
    assert "UserError: 4 GPUs requested, but this machine has 3: a, b, c" in process.stderr.read()


def test_slurms_choice_is_not_changed(hold):
    processes = [hold(1, SLURM_JOB_ID="7") for _ in range(2)]
    assert [held(process) for process in processes] == [[], []]


class TestVisibility:
    @pytest.fixture(autouse=True)
    def _fake(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(gpus.tempfile, "tempdir", str(tmp_path))
        monkeypatch.delenv("SLURM_JOB_ID", raising=False)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1, GPU-2,")

    def test_cuda_sees_the_held_devices_and_afterwards_all(self):
        with gpus.lease(1) as held:
            assert held == ["GPU-1"]
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1, GPU-2,"

    def test_zero_gpus_hold_nothing(self):
        with gpus.lease(0) as none:
            assert none == []

    @pytest.mark.parametrize("visible", ["", "-1"])
    def test_hidden_gpus_are_not_used(self, visible, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with gpus.lease(1) as none:
            assert none == []

    def test_a_lock_folder_of_another_user_is_refused(self, tmp_path):
        folder = tmp_path / f"rdp-gpus-{os.getuid()}"
        folder.symlink_to(Path("/tmp"))
        with pytest.raises(UserError, match="another user"), gpus.lease(1):
            pass
