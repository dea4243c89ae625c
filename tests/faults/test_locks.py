"""Locks on runs and names: the second process waits, and no longer than the first lives."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rdp.errors import Terminated
from rdp.jobs import locks
from rdp.store import Store

pytestmark = pytest.mark.slow
RUN = "cell/seed-0000"
HOLD = """
import logging, signal, sys
from pathlib import Path
from rdp.errors import Terminated
from rdp.jobs import locks
logging.basicConfig(stream=sys.stdout, format="%(levelname)s waits")
signal.signal(signal.SIGTERM, lambda number, frame: print("ignored", flush=True))  # as Snakemake does
try:
    locks.hold_names(sys.argv[2:], Path(sys.argv[1]))
except Terminated:
    sys.exit("stopped")
print("holds", flush=True)
sys.stdin.read()
"""


def hold(path: Path, *names: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", HOLD, path, *names], text=True, **pipes)


def next_line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip()


def test_processes_with_a_common_name_take_turns_and_others_run_at_once(tmp_path: Path) -> None:
    first = hold(tmp_path / "lock", "study", "shared")
    assert next_line(first) == "holds"
    second, other = hold(tmp_path / "lock", "shared", "another"), hold(tmp_path / "lock", "a third")
    assert next_line(other) == "holds"
    assert next_line(second) == "WARNING waits"
    first.kill()
    assert next_line(second) == "holds"
    for process in (first, second, other):
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_waiting_process_can_be_stopped(number: signal.Signals, tmp_path: Path) -> None:
    first = hold(tmp_path / "lock", "study")
    assert next_line(first) == "holds"
    second = hold(tmp_path / "lock", "study")
    assert next_line(second) == "WARNING waits"
    second.send_signal(number)
    assert second.communicate(timeout=30) == ("", None)
    assert second.returncode == 1
    first.communicate()


def test_one_process_at_a_time_holds_a_run_and_its_lock_file_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    caplog.set_level(logging.INFO)

    def stop() -> None:
        raise Terminated

    with locks.lock_run(store, RUN):
        assert caplog.messages == []
        with pytest.raises(Terminated), locks.lock_run(store, RUN, stop):
            pytest.fail("held by two")
        assert caplog.messages == [f"{RUN}: another process is training this run, waiting"]
    assert not list(tmp_path.rglob("*.lock"))


def test_a_lock_on_a_removed_file_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The previous holder may remove the file just after it is opened: nobody else would see a lock on it."""
    store = Store(tmp_path)
    caplog.set_level(logging.INFO)
    path, flock = store.root / f"{RUN}.lock", fcntl.flock

    def remove_first(file: Any, operation: int) -> None:
        monkeypatch.undo()
        path.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with locks.lock_run(store, RUN), path.open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert caplog.messages == []


def test_a_file_system_without_locks_makes_nobody_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: Any, operation: int) -> None:
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr(fcntl, "flock", flock)
    store = Store(tmp_path)
    with locks.lock_run(store, RUN), locks.try_lock_run(store, RUN) as free:
        assert free


def test_a_holder_without_progress_counts_as_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "_STALE_SECONDS", 1.0)
    caplog.set_level(logging.INFO)
    store = Store(tmp_path)
    progress = store.new_attempt(RUN) / "progress.json"
    checks = 0

    def write_progress() -> None:
        nonlocal checks
        checks += 1
        if checks < 4:
            progress.write_text(str(checks))

    with locks.lock_run(store, RUN):
        assert caplog.messages == []
        began = time.monotonic()
        with locks.lock_run(store, RUN, write_progress):
            assert 2.0 < time.monotonic() - began < 5.0
