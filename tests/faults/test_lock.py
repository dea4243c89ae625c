"""Who comes second waits, and no longer than the first lives."""

import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from rdp.errors import Terminated
from rdp.jobs import locks
from rdp.store import Store

pytestmark = pytest.mark.slow
RUN = "cell/seed-0000"
HOLD = """
import signal, sys
from pathlib import Path
from rdp import lock
from rdp.errors import Terminated
signal.signal(signal.SIGTERM, lambda number, frame: print("deaf", flush=True))  # as Snakemake is, but to its jobs
try:
    lock.hold(sys.argv[2:], Path(sys.argv[1]), lambda line: print("waits", flush=True))
except Terminated:
    sys.exit("stopped")
print("holds", flush=True)
sys.stdin.read()
"""


def hold(path: Path, *names: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", HOLD, path, *names], text=True, **pipes)


def says(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip()


def test_two_that_make_the_same_come_after_each_other_and_others_beside(tmp_path: Path) -> None:
    first = hold(tmp_path / "lock", "study", "shared")
    assert says(first) == "holds"
    second, other = hold(tmp_path / "lock", "shared", "another"), hold(tmp_path / "lock", "a third")
    assert says(other) == "holds"
    assert says(second) == "waits"
    first.kill()
    assert says(second) == "holds"
    for process in (first, second, other):
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_waits_can_be_stopped(number: signal.Signals, tmp_path: Path) -> None:
    first = hold(tmp_path / "lock", "study")
    assert says(first) == "holds"
    second = hold(tmp_path / "lock", "study")
    assert says(second) == "waits"
    second.send_signal(number)
    assert second.communicate(timeout=30) == ("", None)
    assert second.returncode == 1
    first.communicate()


def test_a_run_is_held_by_one_at_a_time_and_its_lock_goes_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def stop() -> None:
        raise Terminated

    said: list[str] = []
    with locks.lock(store, RUN, said.append, lambda: None):
        assert said == []
        with pytest.raises(Terminated), locks.lock(store, RUN, said.append, stop):
            pytest.fail("held by two")
        assert said == [f"{RUN}: in training by another process, waiting"]
    assert not list(tmp_path.rglob("*.lock"))


def test_a_lock_on_a_file_that_is_gone_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder before removes the file: for who opened it just then, that would be a lock that nobody else sees."""
    store = Store(tmp_path)
    path, flock = store.root / f"{RUN}.lock", fcntl.flock

    def removed_first(file: IO[str], operation: int) -> None:
        monkeypatch.undo()
        path.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with locks.lock(store, RUN, pytest.fail, lambda: None), path.open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_holder_that_shows_no_progress_is_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_STALE_SECONDS", 1.0)
    store = Store(tmp_path)
    progress = store.new_attempt(RUN) / "progress.json"
    told = 0

    def alive() -> None:
        nonlocal told
        told += 1
        if told < 4:
            progress.write_text(str(told))

    with locks.lock(store, RUN, pytest.fail, lambda: None):
        began = time.monotonic()
        with locks.lock(store, RUN, lambda line: None, alive):
            assert 2.0 < time.monotonic() - began < 5.0
