"""``rdp status``: what runs where, since when and until when, what failed, and the last lines of its log."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rdp.spec import RunSpec
from rdp.store.record import STATUSES
from rdp.study import Plan
from rdp.study.resources import ResourceEstimator
from rdp.study.states import RUN_STATES, State, states
from rdp.utils.humanize import duration

_TAIL_BYTES, _TAIL_LINES = 4096, 4
_TROUBLE = ("failed", "damaged", "stopped")
_TOLD = 20  # runs in trouble that are told of one by one, and cells in a view that is live


@dataclass(frozen=True)
class Standing:
    """A study at one moment: each of its runs, and where it stands."""

    plan: Plan
    results: Path
    found: list[tuple[RunSpec, State]]

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return all(state.status in STATUSES for _, state in self.found)


def look(plan: Plan, results: Path) -> Standing:
    """Where a study stands now."""
    return Standing(plan, results, list(states(plan, results)))


def watch(plan: Plan, results: Path, console: Console, seconds: float) -> None:
    """Show where a study stands every so many seconds, until all of it is done or the user has seen enough."""
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            standing = look(plan, results)
            live.update(Group(*tables(standing, unfinished=True)), refresh=True)
            if standing.over:
                return
            time.sleep(seconds)


def tables(standing: Standing, *, unfinished: bool = False) -> Iterator[Table]:
    """What there is to tell: the grid of cells, what runs, and what went wrong.

    Args:
        standing: from `look`.
        unfinished: leave out the cells of which all runs are done, so that the rest fits a screen.
    """
    yield _grid(standing, unfinished)
    running = [(spec, state) for spec, state in standing.found if state.status == "running"]
    if running:
        yield _running(running)
    trouble = [(spec, state) for spec, state in standing.found if state.status in _TROUBLE]
    silent = _silent(standing)
    if trouble or silent:
        yield _trouble(standing, trouble, silent)
    other = Counter(state.reason for _, state in standing.found if state.status in {"stale", "diverged"})
    if other:
        notes = Table("runs", "note")
        for reason, count in other.most_common(_TOLD):
            notes.add_row(str(count), Text(reason))
        yield notes


def _grid(standing: Standing, unfinished: bool) -> Table:
    plan, by_run = standing.plan, {spec.run: state for spec, state in standing.found}
    grid = Table("cell", *RUN_STATES, title=f"{plan.name}: {plan.study.title}", title_justify="left")
    groups = {"sweeps of learning rates": list(plan.sweep)} if plan.sweep else {}
    groups |= {cell.title: [spec.run for spec in cell.specs] for cell in plan.cells}
    total: Counter[str] = Counter()
    rows = 0
    for title, runs in groups.items():
        counts = Counter(by_run[run].status for run in runs)
        total += counts
        if unfinished and (rows >= _TOLD or all(by_run[run].status in STATUSES for run in runs)):
            continue
        rows += 1
        grid.add_row(title, *(str(counts[word] or "") for word in RUN_STATES))
    grid.add_section()
    grid.add_row("all", *(str(total[word] or "") for word in RUN_STATES))
    left = [spec for spec, state in standing.found if state.status not in STATUSES]
    if left:
        need = ResourceEstimator(standing.results, plan.device).estimate(left)
        basis = "" if need.measured else "; no such network was measured yet"
        grid.caption = f"about {duration(need.seconds)} of training left in all, one run after another{basis}"
    return grid


def _running(running: list[tuple[RunSpec, State]]) -> Table:
    table = Table("running", "where", "since", "step", "", "ends about")
    for spec, state in running:
        if (told := state.progress) is not None:
            share = f"{100 * told.step // max(told.steps, 1)} %"
            ends = "" if told.expected_end is None else _clock(told.expected_end)
            table.add_row(spec.run, told.location, _clock(told.started), f"{told.step}/{told.steps}", share, ends)
    return table


def _trouble(standing: Standing, trouble: list[tuple[RunSpec, State]], silent: dict[Path, str]) -> Table:
    """Runs that failed, stopped or are damaged, each with the last lines of its job's log; and jobs that say why
    they did not begin."""
    table = Table("run", "status", "why, and the last lines of the log")
    logs = _logs(standing.plan, standing.results)
    for spec, state in trouble[:_TOLD]:
        told = Text(state.reason)
        if state.progress is not None:
            told = Text(
                f"{state.reason}; step {state.progress.step}/{state.progress.steps} on {state.progress.location}"
            )
        log = next((path for path in logs.get(spec.run, []) if path.is_file()), None)
        lines = tail(log) if log else []
        if lines:
            told.append(f"\n{log}\n" + "\n".join(lines), style="dim")
        table.add_row(spec.run, state.status, told)
    for log, line in list(silent.items())[:_TOLD]:
        table.add_row(log.stem, "waiting", Text(f"{line}\n{log}"))
    if len(trouble) > _TOLD:
        table.caption = f"and {len(trouble) - _TOLD} more"
    return table


def _logs(plan: Plan, results: Path) -> dict[str, list[Path]]:
    """The logs that the workflow's jobs at a run write, the likeliest first."""
    found: dict[str, list[Path]] = {}
    batches = plan.seed_batches()
    number = {seed: i for i, seeds in enumerate(batches) for seed in seeds}
    for cell in plan.cells:
        for spec in cell.specs:
            found[spec.run] = [results / "logs" / "train_cell" / f"{cell.id}-{number[spec.seed]}.log"]
        for spec in cell.specs[0].candidates():
            found.setdefault(spec.run, []).append(results / "logs" / "tune_cell" / f"{cell.id}.log")
    return found


def _silent(standing: Standing) -> dict[Path, str]:
    """The last lines of jobs that ended before any of their runs began: what a user can mend, told by `rdp`."""
    waiting = {spec.run for spec, state in standing.found if state.status == "waiting"}
    if not waiting:
        return {}
    logs = _logs(standing.plan, standing.results)
    folders = {log.parent for paths in logs.values() for log in paths}
    there = {entry.path for folder in folders if folder.is_dir() for entry in os.scandir(folder)}
    paths = {log: None for run in logs if run in waiting for log in logs[run] if str(log) in there}
    return {log: lines[-1] for log in paths if (lines := tail(log)) and lines[-1].startswith("rdp: ")}


def tail(path: Path) -> list[str]:
    """The last lines of a log, without reading the rest of it."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-_TAIL_LINES:]


def _clock(moment: float) -> str:
    """A time of day, with the date where it is not today's."""
    form = "%H:%M:%S" if time.strftime("%F", time.localtime(moment)) == time.strftime("%F") else "%F %H:%M"
    return time.strftime(form, time.localtime(moment))
