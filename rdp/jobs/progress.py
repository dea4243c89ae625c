"""How far a run is: a bar on a terminal, plain lines in a log, a small file for ``rdp status``."""

import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rdp.errors import UserError
from rdp.utils import files

_SECONDS = 2.0  # between two writes of the progress file


class Reporter:
    """Tells the progress of one job's runs, one after another.

    Telling must never end a run: on a full disk, lines and files that cannot be written are left out.
    """

    def __init__(self, bar: bool = True, *, silent: bool = False) -> None:
        self.silent = silent  # of several processes that train together, one tells
        self._bar = None
        if bar and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"))

    def __enter__(self) -> "Reporter":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        """One plain line, above the bar where there is one."""
        if self.silent:
            return
        with suppress(OSError):
            if self._bar:
                self._bar.console.print(line, markup=False, highlight=False)
            else:
                print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    def run(self, name: str, attempt: Path) -> "RunProgress":
        """Follow one run, whose attempt lies in the directory ``attempt``."""
        return RunProgress(self, name, attempt)


class RunProgress:
    """The progress of one run."""

    def __init__(self, reporter: Reporter, name: str, attempt: Path) -> None:
        self._reporter, self._name, self._file = reporter, name, attempt / "progress.json"
        self._started, self._written, self._rows = time.time(), -1e9, 0
        self._told: dict[str, Any] | None = None  # the last row that was written
        self._first: tuple[float, int] | None = None  # when it was first told of, and the step it was at
        bar = reporter._bar
        self._task = bar.add_task(name, total=None, note="") if bar else None

    def update(self, step: int, steps: int, history: list[dict[str, Any]]) -> None:
        """Tell that ``step`` of ``steps`` optimizer steps are done."""
        now = time.monotonic()  # which no change of the clock moves
        self._first = self._first or (now, step)
        if now - self._written > _SECONDS and not self._reporter.silent:
            self._written = now
            since, first = self._first
            row = {"run": self._name, "step": step, "steps": steps, "started": self._started}
            row["seconds_left"] = (now - since) / (step - first) * (steps - step) if step > first else None
            row |= {"slurm_job": os.environ.get("SLURM_JOB_ID"), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
            self._told = row | {"host": socket.gethostname(), "pid": os.getpid()}
            with suppress(UserError):
                files.write_json(self._file, self._told)
        fresh, self._rows = len(history) > self._rows, len(history)
        if self._task is not None:
            note = f"loss {history[-1]['train_loss']:.3f}" if history else ""
            self._reporter._bar.update(self._task, completed=step, total=steps, note=note)
        elif fresh and history[-1]["validation_accuracy"] is not None:
            row = history[-1]
            told = f"loss {row['train_loss']:.4f}, validation accuracy {row['validation_accuracy']:.4f}"
            self._reporter.say(f"{self._name}: epoch {row['epoch']}, step {step}/{steps}, {told}")

    def stop(self) -> None:
        """Tell that the attempt ends before its run does."""
        if self._told is not None:
            with suppress(UserError):
                files.write_json(self._file, self._told | {"stopped": True})

    def end(self) -> None:
        """Take the bar down."""
        if self._task is not None:
            self._reporter._bar.remove_task(self._task)
