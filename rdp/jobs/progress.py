"""Progress of a job's runs: a bar on a terminal, log lines elsewhere, and a file for ``rdp status`` and ``watch``."""

import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rdp.errors import UserError
from rdp.utils import files

log = logging.getLogger(__name__)

_SECONDS = 2.0  # between two writes of the progress file


@contextmanager
def progress_bar(enabled: bool) -> Iterator[Progress | None]:
    """A progress bar on standard error, or None where that is no terminal or information is not logged."""
    if not (enabled and sys.stderr.isatty() and log.isEnabledFor(logging.INFO)):
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as bar:
        yield bar


class RunProgress:
    """Reports the progress of one run. A file that cannot be written, as on a full disk, is skipped.

    Args:
        name: the run.
        attempt: directory of the attempt at it, for ``progress.json``; None writes no file.
        bar: shows the steps; without it, each validated epoch is logged.
    """

    def __init__(self, name: str, attempt: Path | None, bar: Progress | None) -> None:
        self._name, self._bar = name, bar
        self._file = attempt / "progress.json" if attempt else None
        self._started, self._written, self._epochs = time.time(), -1e9, 0
        self._row: dict[str, Any] | None = None  # the last one written
        self._first: tuple[float, int] | None = None  # time and step of the first update
        self._task = bar.add_task(name, total=None, note="") if bar else None

    def update(self, step: int, steps: int, history: list[dict[str, Any]]) -> None:
        """Report that ``step`` of ``steps`` optimizer steps are done."""
        now = time.monotonic()  # independent of changes of the clock
        self._first = self._first or (now, step)
        if self._file and now - self._written > _SECONDS:
            self._written = now
            self._row = self._describe(step, steps, history, now)
            self._write(self._row)
        last = history[-1] if history else {}
        new_epoch, self._epochs = len(history) > self._epochs, len(history)
        if self._bar and self._task is not None:
            note = f"loss {last['train_loss']:.3f}" if last else ""
            self._bar.update(self._task, completed=step, total=steps, note=note)
        elif new_epoch and last["validation_accuracy"] is not None:
            scores = f"loss {last['train_loss']:.4f}, validation accuracy {last['validation_accuracy']:.4f}"
            log.info("%s: epoch %d, step %d/%d, %s", self._name, last["epoch"], step, steps, scores)

    def _describe(self, step: int, steps: int, history: list[dict[str, Any]], now: float) -> dict[str, Any]:
        since, first = self._first or (now, step)
        return {
            "run": self._name,
            "step": step,
            "steps": steps,
            "started": self._started,
            "seconds_left": (now - since) / (step - first) * (steps - step) if step > first else None,
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "history": history,
        }

    def _write(self, row: dict[str, Any]) -> None:
        if self._file:
            with suppress(UserError):
                files.write_json(self._file, row)

    def stop(self) -> None:
        """Note in the file that the attempt ended before its run did."""
        if self._row is not None:
            self._write(self._row | {"stopped": True})

    def close(self) -> None:
        """Remove the run from the bar."""
        if self._bar and self._task is not None:
            self._bar.remove_task(self._task)
