"""Log records on standard error."""

import io
import logging
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from rdp.utils.console import configure_logging, verbosity

log = logging.getLogger("rdp.jobs.example")


@pytest.fixture(autouse=True)
def unconfigured():
    logger = logging.getLogger("rdp")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.mark.parametrize(
    ("level", "expected"),
    [(-2, "error"), (-1, "warning error"), (0, "info warning error"), (1, "debug info warning error")],
)
def test_verbosity_selects_the_records_on_standard_error(capsys, level, expected):
    configure_logging(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("%s", name)
    out, err = capsys.readouterr()
    assert (out, err.split()) == ("", expected.split())
    assert verbosity() == level


def test_a_second_call_changes_the_level_and_prints_nothing_twice(capsys):
    configure_logging(-1)
    configure_logging(0)
    log.info("once")
    assert capsys.readouterr().err == "once\n"


def test_records_appear_above_a_progress_bar(monkeypatch):
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80)
    configure_logging()
    with Progress(console=console) as progress:
        progress.add_task("training", total=2)
        log.info("epoch [1] done")
    lines = terminal.getvalue().splitlines()
    assert any("epoch [1] done" in line and "training" not in line for line in lines)


def test_a_full_disk_does_not_raise(monkeypatch):
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 (closing it flushes, which fails)
    monkeypatch.setattr(sys, "stderr", full)
    configure_logging()
    log.info("lost")
    with pytest.raises(OSError, match="No space left"):
        full.close()
