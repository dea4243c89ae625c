"""Where each run of a study stands, from small files alone: receipts, and the progress that attempts tell of."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import Store, fingerprint, origin
from rdp.study import Plan

DONE = frozenset({"completed", "diverged", "failed"})
WORDS = ("completed", "diverged", "failed", "running", "stopped", "stale", "damaged", "waiting")
_FRESH_SECONDS = 60.0  # an attempt writes its progress every few seconds


@dataclass(frozen=True)
class Progress:
    """What an attempt last told of itself.

    Attributes:
        step, steps: optimizer steps done and in all.
        started: when the attempt began, in seconds since the epoch.
        told: when it told this.
        seconds_left: until its end, by its own estimate; None before it has one.
        where: the host, and Slurm's number of the job and the GPU where there are.
        over: whether the attempt ended in an orderly way before its run did.
    """

    step: int
    steps: int
    started: float
    told: float
    seconds_left: float | None
    where: str
    over: bool = False

    @property
    def age(self) -> float:
        """Seconds between now and when it was told, which lies ahead where a clock was set back."""
        return abs(time.time() - self.told)

    @property
    def ends(self) -> float | None:
        """When the attempt expects to end, in seconds since the epoch."""
        return None if self.seconds_left is None else self.told + self.seconds_left


@dataclass(frozen=True)
class State:
    """Where one run stands.

    Attributes:
        status: ``completed``, ``diverged``, ``failed``, ``running``, ``stopped`` (an attempt that shows no
            progress), ``stale`` (made by other code), ``damaged`` or ``waiting``.
        reason: why, where that is not plain.
        progress: of a run that is running or stopped.
    """

    status: str
    reason: str = ""
    progress: Progress | None = None


def states(plan: Plan, results: Path, *, verify: bool = False) -> Iterator[tuple[RunSpec, State]]:
    """Every run of the study, those of its sweeps first, and where it stands.

    Args:
        plan: the study.
        results: the results directory.
        verify: read every record and its files too, to tell those that are damaged; else receipts are believed.
    """
    store = Store(results)
    attempts: dict[str, dict[str, list[Path]]] = {}
    for spec in (*plan.sweep.values(), *plan.specs):
        if (state := _done(store, spec, verify)) is None:
            if spec.cell not in attempts:
                attempts[spec.cell] = _attempts(store, spec.cell)
            state = _under_way(attempts[spec.cell].get(f"seed-{spec.seed:04d}", []))
        yield spec, state


def _done(store: Store, spec: RunSpec, verify: bool) -> State | None:
    try:
        receipt = store.read_receipt(spec.run)
        if verify and (record := store.read_finished(spec.run)) is not None:
            store.check_files(spec.run, record)
        why = None if receipt is None else stale(store, spec, receipt.code, receipt.stack)
    except UserError as error:
        return State("damaged", str(error))
    if receipt is None:
        return None
    if why is not None:
        return State("stale", why)
    return State(receipt.status, receipt.reason or "")


def stale(store: Store, spec: RunSpec, code: str, stack: str) -> str | None:
    """Why what a code made may not stand for a run; None where it may.

    It may where it is the code of this checkout, or an adoption leads from it there, or results are recorded: those
    were made by the code of some commit, and the report says whether that is this checkout's.

    Args:
        store, spec: which run.
        code: digest of the code that made its record.
        stack: digest of the stack it was made on.
    """
    if code == fingerprint.code_of(spec) or origin.holds(store.root.parent):
        return None
    if adopted(store, spec, code, stack):
        return None
    doubts = "".join(f" ({line}, so not believed)" for line in store.adoptions.damaged)
    return f"made by other code than this checkout's{doubts}"


def adopted(store: Store, spec: RunSpec, code: str, stack: str) -> bool:
    """Whether other code made a run, and an adoption leads from it to this checkout's (see `stale`)."""
    wanted = fingerprint.code_of(spec)
    if code == wanted or not store.adoptions.all:
        return False
    return store.adoptions.lead(code, wanted, stack)


def _attempts(store: Store, cell: str) -> dict[str, list[Path]]:
    """The attempts under way at a cell's runs, by seed."""
    found: dict[str, list[Path]] = {}
    for path in (store.root / cell / "attempts").glob("seed-*"):
        found.setdefault("-".join(path.name.split("-")[:2]), []).append(path)
    return found


def _under_way(attempts: list[Path]) -> State:
    told = [progress for path in attempts if (progress := _progress(path / "progress.json"))]
    if not told:
        return State("waiting")
    latest = max(told, key=lambda progress: progress.told)
    if latest.over:
        return State("stopped", "was stopped in an orderly way", latest)
    if latest.age > _FRESH_SECONDS:
        return State("stopped", f"no sign for {latest.age:.0f} s", latest)
    return State("running", "", latest)


def _progress(path: Path) -> Progress | None:
    """What an attempt told; None where it has not yet, or the file is gone or damaged."""
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        where = str(row["host"])
        where += f", job {row['slurm_job']}" if row.get("slurm_job") else ""
        where += f", GPU {row['gpu']}" if row.get("gpu") else ""
        told = path.stat().st_mtime
        left = None if row.get("seconds_left") is None else _seconds(row["seconds_left"])
        over = row.get("stopped") is True
        return Progress(int(row["step"]), int(row["steps"]), _seconds(row["started"]), told, left, where, over)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _seconds(value: Any) -> float:
    """A time that a clock can show; ValueError for any other."""
    seconds = float(value)
    if not 0 <= seconds < 1e11:
        raise ValueError(f"no time: {seconds}")
    return seconds
