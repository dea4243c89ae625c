"""What a study asks for, and where it stands, from small files alone: torch is not imported."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from rdp import data, files, fingerprint
from rdp.errors import UserError
from rdp.store import Store
from rdp.study import Plan, RunSpec


@dataclass(frozen=True)
class State:
    """Where one run stands: ``completed``, ``diverged``, ``failed``, ``running``, ``stopped`` (an attempt
    that shows no progress), ``stale`` (made by other code), ``damaged`` or ``waiting``."""

    status: str
    note: str = ""


_FRESH_SECONDS = 60.0  # an attempt writes its progress every few seconds


def states(plan: Plan, results: Path) -> Iterator[tuple[RunSpec, State]]:
    """Every run of the study and where it stands."""
    store = Store(results)
    for spec in plan.specs:
        yield spec, _state(store, spec)


def _state(store: Store, spec: RunSpec) -> State:
    if store.receipt(spec.run).exists():
        try:
            record = store.received(spec.run)
        except UserError as error:
            return State("damaged", str(error))
        if record.identity["code"] != fingerprint.code_digest(spec.method, spec.architecture):
            return State("stale", "made by other code than this checkout's")
        return State(record.status, record.reason or "")
    progress = [found for path in store.attempts(spec.run) if (found := _progress(path))]
    if not progress:
        return State("waiting")
    age, latest = min(progress, key=lambda item: item[0])
    note = f"step {latest['step']}/{latest['steps']} on {latest['host']}"
    if age > _FRESH_SECONDS:
        return State("stopped", f"{note}, no sign for {age:.0f} s")
    elapsed = time.time() - latest["started"]
    rest = elapsed * (latest["steps"] - latest["step"]) / max(latest["step"], 1)
    return State("running", f"{note}, about {rest:.0f} s to go")


def _progress(attempt: Path) -> tuple[float, dict[str, Any]] | None:
    path = attempt / "progress.json"
    try:
        return time.time() - path.stat().st_mtime, files.read_json(path)
    except (UserError, OSError):
        return None


def plan_tables(plan: Plan, results: Path) -> list[Table]:
    """A study's cells, with how many of their runs are done, and what was left out."""
    done = {spec.run: state.status for spec, state in states(plan, results)}
    title = f"{plan.name}: {plan.study.title}"
    table = Table("cell", "seeds", "done", "epochs", "examples a run", "job", title=title, title_justify="left")
    examples = 0
    for cell in plan.cells:
        recipe = cell.specs[0].recipe
        size = recipe.train_size or data.info(cell.dataset).sizes["train"]
        run_examples = recipe.epochs * (size // recipe.batch_size) * recipe.batch_size
        finished = sum(done[spec.run] in {"completed", "diverged", "failed"} for spec in cell.specs)
        examples += run_examples * (len(cell.specs) - finished)
        counts = str(len(cell.specs)), str(finished), str(recipe.epochs), f"{run_examples:,}"
        table.add_row(cell.title, *counts, cell.id)
    runs = sum(len(cell.specs) for cell in plan.cells)
    finished = sum(status in {"completed", "diverged", "failed"} for status in done.values())
    jobs = len(plan.cells) * len(plan.seed_batches())
    todo = f"{examples:,} examples to train on"
    table.caption = f"{len(plan.cells)} cells, {jobs} jobs, {runs} runs, {finished} done; {todo}"
    tables = [table]
    if plan.skipped:
        left_out = Table("left out", "why")
        for skip in plan.skipped:
            left_out.add_row(f"{skip.architecture}/{skip.dataset}/{skip.label}", skip.reason)
        tables.append(left_out)
    return tables


def status_tables(plan: Plan, results: Path) -> list[Table]:
    """The grid with counts by status, and a line for each run that runs or went wrong."""
    found = {spec.run: state for spec, state in states(plan, results)}
    shown = ("completed", "diverged", "failed", "running", "stopped", "stale", "damaged", "waiting")
    title = f"{plan.name}: {plan.study.title}"
    grid = Table("cell", *shown, title=title, title_justify="left")
    total: Counter[str] = Counter()
    for cell in plan.cells:
        counts = Counter(found[spec.run].status for spec in cell.specs)
        total += counts
        grid.add_row(cell.title, *(str(counts[status] or "") for status in shown))
    grid.add_section()
    grid.add_row("all", *(str(total[status] or "") for status in shown))
    tables = [grid]
    noted = [(run, state) for run, state in found.items() if state.note]
    if noted:
        notes = Table("run", "status", "note")
        for run, state in noted:
            notes.add_row(run, state.status, state.note)
        tables.append(notes)
    return tables
