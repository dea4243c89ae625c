"""Tables of ``rdp status``: the state of every run, where runs train, and the log of those that failed."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rdp.store.record import STATUSES
from rdp.study import Plan
from rdp.study.comparisons import by_cell
from rdp.study.resources import ResourceEstimator
from rdp.study.states import RUN_STATES, Snapshot
from rdp.utils.humanize import duration

_TAIL_BYTES, _TAIL_LINES = 4096, 4
_TROUBLE = ("failed", "damaged", "stopped")
_MAX_ROWS = 20  # of runs in trouble, and of cells in a live view


def watch(plan: Plan, results: Path, console: Console, seconds: float) -> None:
    """Show the tables and refresh them every ``seconds`` until all runs are done or the user interrupts."""
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            snapshot = Snapshot(plan, results)
            live.update(Group(*tables(snapshot, unfinished=True)), refresh=True)
            if not snapshot.remaining:
                return
            time.sleep(seconds)


def tables(snapshot: Snapshot, *, unfinished: bool = False) -> Iterator[Table]:
    """Yield the table of cells, then those of running runs, of runs in trouble and of notes, unless empty.

    With ``unfinished``, leave out finished cells, so that the others fit on a screen.
    """
    yield _cells(snapshot, unfinished)
    for table in (_running(snapshot), _trouble(snapshot), _notes(snapshot)):
        if table.row_count:
            yield table


def _cells(snapshot: Snapshot, unfinished: bool) -> Table:
    plan, by_run = snapshot.plan, {spec.run: state for spec, state in snapshot.states}
    table = Table("cell", *RUN_STATES, title=f"{plan.name}: {plan.study.title}", title_justify="left")
    groups = {f"sweeps of {plan.swept}": list(plan.sweep)} if plan.sweep else {}
    settings = by_cell(plan)
    for cell in plan.cells:
        recipe = settings[cell.id].recipe
        groups[cell.title + (f", {recipe}" if recipe else "")] = [spec.run for spec in cell.specs]
    total: Counter[str] = Counter()
    for title, runs in groups.items():
        counts = Counter(by_run[run].status for run in runs)
        total += counts
        if unfinished and (table.row_count >= _MAX_ROWS or counts.keys() <= set(STATUSES)):
            continue
        table.add_row(title, *(str(counts[status] or "") for status in RUN_STATES))
    table.add_section()
    table.add_row("all", *(str(total[status] or "") for status in RUN_STATES))
    if remaining := snapshot.remaining:
        need = ResourceEstimator(snapshot.results, plan.device).estimate(remaining)
        basis = "" if need.measured else "; no such network was measured yet"
        table.caption = f"about {duration(need.seconds)} of training left in all, one run after another{basis}"
    return table


def _running(snapshot: Snapshot) -> Table:
    table = Table("running", "where", "since", "step", "", "ends about")
    for spec, state in snapshot.of("running"):
        if (progress := state.progress) is not None:
            share = f"{100 * progress.step // max(progress.steps, 1)} %"
            steps = f"{progress.step}/{progress.steps}"
            ends = "" if progress.expected_end is None else _clock(progress.expected_end)
            table.add_row(spec.run, progress.location, _clock(progress.started), steps, share, ends)
    return table


def _trouble(snapshot: Snapshot) -> Table:
    """Return runs that failed, stopped or are damaged with the end of their logs, and errors of jobs without runs."""
    table = Table("run", "status", "why, and the last lines of the log")
    runs, logs = snapshot.of(*_TROUBLE), _logs(snapshot.plan, snapshot.results)
    for spec, state in runs[:_MAX_ROWS]:
        text = Text(state.reason)
        if (progress := state.progress) is not None:
            text.append(f"; step {progress.step}/{progress.steps} on {progress.location}")
        log = next((path for path in logs.get(spec.run, []) if path.is_file()), None)
        if log and (lines := tail(log)):
            text.append(f"\n{log}\n" + "\n".join(lines), style="dim")
        table.add_row(spec.run, state.status, text)
    for log, line in list(_early_errors(snapshot, logs).items())[:_MAX_ROWS]:
        table.add_row(log.stem, "waiting", Text(f"{line}\n{log}"))
    if len(runs) > _MAX_ROWS:
        table.caption = f"and {len(runs) - _MAX_ROWS} more"
    return table


def _notes(snapshot: Snapshot) -> Table:
    table = Table("runs", "note")
    reasons = Counter(state.reason for _, state in snapshot.of("stale", "diverged"))
    for reason, count in reasons.most_common(_MAX_ROWS):
        table.add_row(str(count), Text(reason))
    return table


def _logs(plan: Plan, results: Path) -> dict[str, list[Path]]:
    logs: dict[str, list[Path]] = {}
    batch = {seed: number for number, seeds in enumerate(plan.seed_batches()) for seed in seeds}
    for cell in plan.cells:
        for spec in cell.specs:
            logs[spec.run] = [results / "logs" / "train_cell" / f"{cell.id}-{batch[spec.seed]}.log"]
        for spec in cell.specs[0].candidates():
            logs.setdefault(spec.run, []).append(results / "logs" / "tune_cell" / f"{cell.id}.log")
    return logs


def _early_errors(snapshot: Snapshot, logs: dict[str, list[Path]]) -> dict[Path, str]:
    """Return the error messages of jobs that ended before any of their runs began, by log."""
    waiting = {spec.run for spec, _ in snapshot.of("waiting")}
    folders = {log.parent for run in waiting for log in logs.get(run, [])}
    existing = {entry.path for folder in folders if folder.is_dir() for entry in os.scandir(folder)}
    paths = {log: None for run in logs if run in waiting for log in logs[run] if str(log) in existing}
    return {log: lines[-1] for log in paths if (lines := tail(log)) and lines[-1].startswith("rdp: ")}


def tail(path: Path) -> list[str]:
    """Return the last lines of a log without reading all of it; an unreadable log has none."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-_TAIL_LINES:]


def _clock(moment: float) -> str:
    """Return a time of day, with the date unless it is today."""
    today = time.strftime("%F", time.localtime(moment)) == time.strftime("%F")
    return time.strftime("%H:%M:%S" if today else "%F %H:%M", time.localtime(moment))
