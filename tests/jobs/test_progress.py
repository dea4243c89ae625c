"""Progress of a run: a file for ``rdp status``, and log lines where there is no bar."""

import json
import logging
import sys

import pytest

from rdp.jobs import progress
from rdp.jobs.progress import RunProgress, progress_bar

EPOCH = {"epoch": 1, "train_loss": 0.5, "validation_accuracy": 0.75}


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_file_holds_the_step_and_the_seconds_left(tmp_path, clock):
    run = RunProgress("cell/seed-0000", tmp_path, None)
    run.update(1, 11, [])
    clock[0] = 4.0
    run.update(3, 11, [])
    row = json.loads((tmp_path / "progress.json").read_text())
    assert (row["run"], row["step"], row["steps"], row["seconds_left"]) == ("cell/seed-0000", 3, 11, 16.0)
    run.stop()
    assert json.loads((tmp_path / "progress.json").read_text()) == row | {"stopped": True}


def test_the_file_holds_the_epochs_done(tmp_path, clock):
    run, history = RunProgress("cell/seed-0000", tmp_path, None), [EPOCH]
    run.update(10, 30, history)
    assert json.loads((tmp_path / "progress.json").read_text())["history"] == [EPOCH]
    history.append(EPOCH | {"epoch": 2})
    run.update(20, 30, history)  # too soon to be written
    run.stop()
    assert json.loads((tmp_path / "progress.json").read_text())["history"] == history


def test_a_process_without_an_attempt_writes_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunProgress("cell/seed-0000", None, None)
    run.update(1, 2, [])
    run.stop()
    assert list(tmp_path.iterdir()) == []


def test_each_validated_epoch_is_logged_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = RunProgress("cell/seed-0000", tmp_path, None)
    history = [EPOCH]
    run.update(10, 20, history)
    run.update(11, 20, history)
    history.append(EPOCH | {"epoch": 2, "validation_accuracy": None})
    run.update(20, 20, history)
    assert caplog.messages == ["cell/seed-0000: epoch 1, step 10/20, loss 0.5000, validation accuracy 0.7500"]


@pytest.mark.parametrize(
    ("enabled", "level", "terminal", "shown"),
    [
        (True, logging.INFO, True, True),
        (False, logging.INFO, True, False),
        (True, logging.WARNING, True, False),
        (True, logging.INFO, False, False),
    ],
)
def test_a_bar_is_shown_on_a_terminal_unless_quiet(enabled, level, terminal, shown, monkeypatch, caplog):
    caplog.set_level(level, "rdp")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with progress_bar(enabled) as bar:
        assert (bar is not None) == shown
