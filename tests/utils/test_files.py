"""Partial files of killed processes are removed; files in use stay."""

import fcntl
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rdp.data import prepared
from rdp.errors import UserError
from rdp.utils import files

PATTERN = ".*.part"

# Writes half a file in a folder that it tends, says so, and waits.
WRITER = """
import sys
from pathlib import Path
from rdp.utils import files

folder = Path(sys.argv[1])
with files.write_session(folder, ".*.part"), files.atomic_write(folder / "table") as part:
    part.write_text("half")
    print(part.name, flush=True)
    sys.stdin.read()
"""

# Prepares a dataset whose half-written file is large enough to be seen.
PREPARER = """
import sys
from pathlib import Path
import safetensors.numpy
from rdp.data import prepared

save = safetensors.numpy.save_file
def save_and_wait(arrays, path):
    save(arrays, path)
    Path(path).with_name(".tmpAb3xYz").write_bytes(b"half")  # as safetensors leaves its own
    print(path, flush=True)
    sys.stdin.read()
safetensors.numpy.save_file = save_and_wait
prepared.prepare("spiral", Path(sys.argv[1]))
"""


class Process:
    """A process that has begun to write."""

    def __init__(self, script: str, folder: Path) -> None:
        command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.wrote = self.popen.stdout.readline().strip()

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        self.popen.communicate()


@pytest.fixture
def begin():
    """Start processes that write; none outlives the test."""
    begun = []

    def start(script: str, folder: Path) -> Process:
        begun.append(Process(script, folder))
        return begun[-1]

    yield start
    for process in begun:
        if process.popen.returncode is None:
            process.kill()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_partial_files_of_a_killed_process_are_removed_by_the_next(begin, tmp_path):
    killed = begin(WRITER, tmp_path)
    killed.kill()
    assert names(tmp_path) == {killed.wrote}
    with files.write_session(tmp_path, PATTERN):
        assert names(tmp_path) == set()


def test_a_partial_file_of_a_live_process_stays_and_is_completed(begin, tmp_path):
    dead = begin(WRITER, tmp_path)
    alive = begin(WRITER, tmp_path)
    dead.kill()
    with files.write_session(tmp_path, PATTERN):
        assert names(tmp_path) == {dead.wrote, alive.wrote}
    alive.end()
    assert names(tmp_path) == {dead.wrote, "table"}
    with files.write_session(tmp_path, PATTERN):
        assert names(tmp_path) == {"table"}


def test_only_files_with_the_given_patterns_are_removed(tmp_path):
    for name in ("table", ".table.part.old", "other.part", ".hidden"):
        (tmp_path / name).write_text("whole")
    with files.write_session(tmp_path, PATTERN):
        pass
    assert names(tmp_path) == {"table", ".table.part.old", "other.part", ".hidden"}


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".table.0.part").write_text("half")
    with files.write_session(tmp_path, PATTERN):
        assert names(tmp_path) == {".table.0.part"}


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"taken: cannot be written"), files.write_session(tmp_path / "taken"):
        pass


def test_partial_files_of_a_killed_preparation_are_removed_by_the_next(begin, tmp_path):
    folder = prepared.folder("spiral", tmp_path)
    killed = begin(PREPARER, tmp_path)
    killed.kill()
    assert names(folder) == {Path(killed.wrote).name, ".tmpAb3xYz"}
    prepared.prepare("spiral", tmp_path)
    assert names(folder) == {"data.safetensors", "manifest.json"}


def test_parallel_preparations_do_not_disturb_each_other(begin, tmp_path):
    other = begin(PREPARER, tmp_path)
    prepared.prepare("spiral", tmp_path)
    assert Path(other.wrote).exists()
    other.end()
    assert other.popen.returncode == 0
    assert names(prepared.folder("spiral", tmp_path)) == {"data.safetensors", "manifest.json", ".tmpAb3xYz"}
    assert prepared.load("spiral", tmp_path)
