"""The page of ``rdp watch``: a study in training, with curves of its runs. It is written again and again."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rdp.errors import UserError
from rdp.report import explorer, templating
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store
from rdp.store.record import STATUSES, Epoch
from rdp.study import Plan
from rdp.study.resources import ResourceEstimator
from rdp.study.states import RUN_STATES, Progress, RunState, Snapshot, State
from rdp.utils import distribution, files
from rdp.utils.humanize import PERCENT, duration

_TROUBLE = ("failed", "damaged", "stopped")
_MAX_ROWS = 20  # of runs in trouble
_MAX_RUNNING = 40  # with curves
_RECENT = 8  # finished runs with curves


@dataclass(frozen=True)
class Shown:
    """A run that the page shows with its curves."""

    run: str
    note: str
    history: Sequence[Epoch]
    status: RunState
    progress: Progress | None = None  # of a run in training
    epochs: int = 0  # that its axes span at least


def watch(plan: Plan, results: Path, seconds: float) -> None:
    """Write the page every ``seconds`` until all runs are done or the user interrupts; print its path once."""
    said = False
    while True:
        snapshot = Snapshot(plan, results)
        path = write(snapshot, seconds)
        if not said:
            print(path, flush=True)
            said = True
        if not snapshot.remaining:
            return
        time.sleep(seconds)


def write(snapshot: Snapshot, seconds: float) -> Path:
    """Write ``watch.html``, which reloads itself every ``seconds`` unless all runs are done.

    Raises:
        UserError: it cannot be written.
    """
    plan, titles = snapshot.plan, _titles(snapshot.plan)
    running = [_running(spec, state.progress) for spec, state in snapshot.of("running") if state.progress]
    finished = _finished(snapshot)
    shown = [*running[:_MAX_RUNNING], *finished]
    counts = Counter(state.status for _, state in snapshot.states)
    trouble = snapshot.of(*_TROUBLE)
    script = templating.text("curves.js") + templating.text("watch.js")
    style = templating.text("style.css")
    text = templating.html("watch.html.j2").render(
        plan=plan,
        version=distribution.version(),
        style=style,
        script=script,
        policy=templating.policy(style, script),
        every=seconds if snapshot.remaining else None,
        updated=time.time(),
        clock=_clock(time.time()),
        counts={status: counts[status] for status in RUN_STATES if counts[status]},
        done=sum(counts[status] for status in STATUSES),
        total=len(snapshot.states),
        left=_left(snapshot),
        titles=titles,
        running=running[:_MAX_RUNNING],
        more=len(running[_MAX_RUNNING:]),
        trouble=[(spec.run, state) for spec, state in trouble[:_MAX_ROWS]],
        more_trouble=len(trouble[_MAX_ROWS:]),
        finished=finished,
        data=explorer.embedded(_curves(shown)),
    )
    path = snapshot.results / plan.name / "watch.html"
    with files.atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _titles(plan: Plan) -> dict[str, str]:
    """Every run in words, by its name in the store."""
    titles = {}
    for cell in plan.cells:
        where = f"{cell.architecture} on {cell.dataset}"
        for spec in cell.specs[0].candidates():
            values = [f"learning rate {spec.recipe.learning_rate:g}"]
            values += [f"norm gain {spec.recipe.norm_gain:g}"] if plan.norm_gains else []
            titles[spec.run] = f"Sweep of {cell.label}, {', '.join(values)}, seed {spec.seed}: {where}"
        titles |= {spec.run: f"{cell.label}, seed {spec.seed}: {where}" for spec in cell.specs}
    return titles


def _running(spec: RunSpec, progress: Progress) -> Shown:
    left = "" if (seconds := _seconds_left(progress)) is None else f", about {duration(seconds)} left"
    note = f"step {progress.step:,} of {progress.steps:,}{left}; {progress.location}"
    return Shown(spec.run, note, progress.history, "running", progress, spec.recipe.epochs)


def _seconds_left(progress: Progress) -> float | None:
    end = progress.expected_end
    return None if end is None else max(end - time.time(), 0.0)


def _finished(snapshot: Snapshot) -> list[Shown]:
    """The runs that completed or diverged last, latest first."""
    store, times = Store(snapshot.results), {}
    for spec, _ in snapshot.of("completed", "diverged"):
        with suppress(OSError):
            times[spec.run] = store.receipt(spec.run).stat().st_mtime
    rows = []
    for run in sorted(times, key=times.__getitem__, reverse=True)[:_RECENT]:
        with suppress(UserError):  # it is being replaced, or damaged
            record = store.read(run)
            note = f"{_outcome(record)}; finished {_clock(times[run])}"
            rows.append(Shown(run, note, record.numbers.history, record.status))
    return rows


def _outcome(record: RunRecord) -> str:
    numbers = record.numbers
    if record.status == "diverged":
        return f"diverged: {record.reason}"
    if numbers.test_accuracy is not None:
        return f"test accuracy {PERCENT * numbers.test_accuracy:.1f} %"
    last = numbers.history[-1].validation_accuracy if numbers.history else None
    return "completed" if last is None else f"validation accuracy {PERCENT * last:.1f} %"


def _left(snapshot: Snapshot) -> str:
    """The time until all runs are done, in words.

    Runs in training estimate their own. For the others it is estimated from what finished runs like them took.
    """
    if not snapshot.remaining:
        return "All runs are done."
    running = {spec.run: state for spec, state in snapshot.of("running")}
    own = {run: left for run, state in running.items() if (left := _own_estimate(state)) is not None}
    others = [spec for spec in snapshot.remaining if spec.run not in own]
    need = ResourceEstimator(snapshot.results, snapshot.plan.device).estimate(others)
    basis = "" if need.measured else "; no such network was measured yet"
    if not running:
        return f"No run is in training. About {duration(need.seconds)} of training left, one run after another{basis}."
    seconds = max([(need.seconds + sum(own.values())) / len(running), *own.values()])
    at_once = "one run at a time" if len(running) == 1 else f"{len(running)} runs at a time"
    return f"About {duration(seconds)} left with {at_once}{basis}."


def _own_estimate(state: State) -> float | None:
    return _seconds_left(state.progress) if state.progress else None


def _curves(shown: list[Shown]) -> dict[str, Any]:
    """The curves of runs in the form of `rdp.report.explorer`, and the epochs that the axes of running ones span."""
    rows = [{"run": row.run} | dict(epoch) for row in shown for epoch in row.history]
    history = pd.DataFrame(rows, columns=["run", *Epoch.model_fields])
    epochs, curves = explorer.curves([row.run for row in shown], history)
    return {"epochs": epochs, "curves": curves, "measures": explorer.CURVES, "ends": [row.epochs for row in shown]}


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
