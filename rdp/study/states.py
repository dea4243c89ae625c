"""The state of each run of a study, from small files: receipts, and the progress files of attempts."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import Store, fingerprint, origin
from rdp.store.record import STATUSES, Epoch, Status
from rdp.study import Plan

RunState = Literal[Status, "running", "stopped", "stale", "damaged", "waiting"]
RUN_STATES: tuple[RunState, ...] = get_args(RunState)
_FRESH_SECONDS = 60.0  # an attempt writes its progress every few seconds


@dataclass(frozen=True)
class Progress:
    """The last progress report of an attempt."""

    step: int  # optimizer steps done
    steps: int  # optimizer steps in all
    started: float  # when the attempt began, in seconds since the epoch
    updated: float  # when it wrote this report, in seconds since the epoch
    seconds_left: float | None  # its own estimate of the time until its end, if it has one
    location: str  # the host, with the Slurm job and the GPU if there are any
    shut_down: bool = False  # whether the attempt was asked to stop, and did
    history: tuple[Epoch, ...] = ()  # the epochs done, those of the attempts that it resumed included

    @property
    def age(self) -> float:
        """Seconds since the report. A clock that was set back may date it in the future."""
        return abs(time.time() - self.updated)

    @property
    def expected_end(self) -> float | None:
        """When the attempt expects to end, in seconds since the epoch."""
        return None if self.seconds_left is None else self.updated + self.seconds_left


@dataclass(frozen=True)
class State:
    """The state of one run."""

    status: RunState  # ``stopped``: its attempt shows no progress; ``stale``: made by other code
    reason: str = ""  # an explanation, if the status needs one
    progress: Progress | None = None  # of a run that is running or stopped


class Snapshot:
    """The states of a study's runs at one moment."""

    def __init__(self, plan: Plan, results: Path) -> None:
        self.plan, self.results, self.states = plan, results, list(states(plan, results))
        self.remaining = [spec for spec, state in self.states if state.status not in STATUSES]

    def of(self, *statuses: str) -> list[tuple[RunSpec, State]]:
        """Return the runs in one of these statuses."""
        return [(spec, state) for spec, state in self.states if state.status in statuses]


def states(plan: Plan, results: Path, *, verify: bool = False) -> Iterator[tuple[RunSpec, State]]:
    """Every run of the study with its state, runs of sweeps first.

    With ``verify``, every record and its files are read too, which finds damage that receipts do not show.
    """
    store = Store(results)
    attempts: dict[str, dict[str, list[Path]]] = {}
    for spec in (*plan.sweep.values(), *plan.specs):
        if (state := _finished(store, spec, verify)) is None:
            if spec.cell not in attempts:
                attempts[spec.cell] = _attempts(store, spec.cell)
            state = _unfinished(attempts[spec.cell].get(f"seed-{spec.seed:04d}", []))
        yield spec, state


def _finished(store: Store, spec: RunSpec, verify: bool) -> State | None:
    try:
        receipt = store.read_receipt(spec.run)
        if verify and (record := store.read_finished(spec.run)) is not None:
            store.check_files(spec.run, record)
        reason = None if receipt is None else stale(store, spec, receipt.code, receipt.stack)
    except UserError as error:
        return State("damaged", str(error))
    if receipt is None:
        return None
    if reason is not None:
        return State("stale", reason)
    return State(receipt.status, receipt.reason or "")


def stale(store: Store, spec: RunSpec, code: str, stack: str) -> str | None:
    """The reason why a record cannot be used for a run because of its code, or None if it can.

    It can if its code is this checkout's, or an adoption leads from it to this checkout's. Recorded results can always
    be used: their code is that of another commit, and the report says so.
    """
    if code == fingerprint.code_of(spec) or origin.is_recorded(store.root.parent):
        return None
    if adopted(store, spec, code, stack):
        return None
    ignored = "".join(f" (adoption ignored: {line})" for line in store.adoptions.damaged)
    return f"made by other code than this checkout's{ignored}"


def adopted(store: Store, spec: RunSpec, code: str, stack: str) -> bool:
    """Whether other code made a record, and an adoption leads from that code to this checkout's (see `stale`)."""
    current = fingerprint.code_of(spec)
    return code != current and store.adoptions.lead(code, current, stack)


def _attempts(store: Store, cell: str) -> dict[str, list[Path]]:
    attempts: dict[str, list[Path]] = {}
    for path in (store.root / cell / "attempts").glob("seed-*"):
        attempts.setdefault("-".join(path.name.split("-")[:2]), []).append(path)
    return attempts


def _unfinished(attempts: list[Path]) -> State:
    reports = [progress for path in attempts if (progress := _progress(path / "progress.json"))]
    if not reports:
        return State("waiting")
    latest = max(reports, key=lambda progress: progress.updated)
    if latest.shut_down:
        return State("stopped", "shut down on request", latest)
    if latest.age > _FRESH_SECONDS:
        return State("stopped", f"no progress for {latest.age:.0f} s", latest)
    return State("running", "", latest)


def _progress(path: Path) -> Progress | None:
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        location = str(row["host"])
        location += f", job {row['slurm_job']}" if row.get("slurm_job") else ""
        location += f", GPU {row['gpu']}" if row.get("gpu") else ""
        return Progress(
            step=int(row["step"]),
            steps=int(row["steps"]),
            started=_seconds(row["started"]),
            updated=path.stat().st_mtime,
            seconds_left=None if row.get("seconds_left") is None else _seconds(row["seconds_left"]),
            location=location,
            shut_down=row.get("stopped") is True,
            history=tuple(Epoch(**epoch) for epoch in row.get("history", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _seconds(value: Any) -> float:
    """A number of seconds that a clock can show; raises ValueError for any other value."""
    seconds = float(value)
    if not 0 <= seconds < 1e11:
        raise ValueError(f"not a time: {seconds}")
    return seconds
