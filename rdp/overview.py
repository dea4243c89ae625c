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
from rdp.spec import RunSpec
from rdp.store import Store
from rdp.study import Plan


@dataclass(frozen=True)
class State:
    """Where one run stands: ``completed``, ``diverged``, ``failed``, ``running``, ``stopped`` (an attempt
    that shows no progress), ``stale`` (made by other code), ``damaged`` or ``waiting``."""

    status: str
    note: str = ""


_DONE = frozenset({"completed", "diverged", "failed"})
_FRESH_SECONDS = 60.0  # an attempt writes its progress every few seconds


def states(plan: Plan, results: Path) -> Iterator[tuple[RunSpec, State]]:
    """Every run of the study, those of its sweeps first, and where it stands."""
    store = Store(results)
    for spec in (*plan.sweep.values(), *plan.specs):
        yield spec, _state(store, spec)


def _state(store: Store, spec: RunSpec) -> State:
    if store.receipt(spec.run).exists():
        try:
            record = store.received(spec.run)
        except UserError as error:
            return State("damaged", str(error))
        if record.identity["code"] != fingerprint.code_of(spec):
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
    status = {spec.run: state.status for spec, state in states(plan, results)}
    done = {run for run, word in status.items() if word in _DONE}
    title = f"{plan.name}: {plan.study.title}"
    columns = ("cell", "seeds", "done", "sweep", "epochs", "of", "examples a run", "job")
    table = Table(*columns, title=title, title_justify="left")
    for cell in plan.cells:
        recipe, sweep = cell.specs[0].recipe, cell.specs[0].candidates()
        finished = sum(spec.run in done for spec in cell.specs)
        swept = f"{sum(spec.run in done for spec in sweep)}/{len(sweep)}" if sweep else ""
        examples = _examples(cell.specs[0])
        counts = str(len(cell.specs)), str(finished), swept, str(recipe.epochs), recipe.budget, f"{examples:,}"
        table.add_row(cell.title, *counts, cell.id)
    specs = {spec.run: spec for spec in (*plan.sweep.values(), *plan.specs)}
    examples = sum(_examples(spec) for run, spec in specs.items() if run not in done)
    jobs = len(plan.cells) * len(plan.seed_batches()) + sum(cell.specs[0].tuning is not None for cell in plan.cells)
    swept = f" (and {len(plan.sweep)} of sweeps)" if plan.sweep else ""
    runs = f"{len(plan.cells)} cells, {jobs} jobs, {len(specs) - len(plan.sweep)} runs{swept}, {len(done)} done"
    table.caption = f"{runs}; {examples:,} examples to train on"
    if any(spec.recipe.budget != "steps" for spec in specs.values()):
        table.caption += ", counted as if every budget were steps: what the others come to follows from the masks"
    tables = [table]
    if plan.skipped:
        left_out = Table("left out", "why")
        for skip in plan.skipped:
            left_out.add_row(f"{skip.architecture}/{skip.dataset}/{skip.label}", skip.reason)
        tables.append(left_out)
    return [*tables, *_claims_table(plan)]


def _claims_table(plan: Plan) -> list[Table]:
    """The claims that the study speaks to, and those among them that its seeds cannot decide."""
    from rdp.claims import model, planning  # the statistics take half a second, and only `rdp plan` wants them

    found = list(planning.prospects(model.load(), plan))
    table = Table("claim", "on datasets", "settings", "its seeds", title="claims it speaks to", title_justify="left")
    for prospect in found:
        words = "; ".join(prospect.obstacles) or "; ".join(prospect.visible)
        can = "cannot decide it: " if prospect.obstacles else "can decide it" + (": " if words else "")
        table.add_row(prospect.claim, prospect.kind, str(prospect.settings), can + words)
    table.caption = "with probability 0.8, after Holm's correction; config/claims.yaml says what each claims"
    return [table] if found else []


def _examples(spec: RunSpec) -> int:
    """The examples that a run trains on, if its budget is steps."""
    recipe = spec.recipe
    size = recipe.train_size or data.info(spec.dataset).sizes["train"]
    return recipe.epochs * (size // recipe.batch_size) * recipe.batch_size


def status_tables(plan: Plan, results: Path) -> list[Table]:
    """The grid with counts by status, and a line for each run that runs or went wrong."""
    found = {spec.run: state for spec, state in states(plan, results)}
    shown = ("completed", "diverged", "failed", "running", "stopped", "stale", "damaged", "waiting")
    title = f"{plan.name}: {plan.study.title}"
    grid = Table("cell", *shown, title=title, title_justify="left")
    total: Counter[str] = Counter()
    groups = {cell.title: [spec.run for spec in cell.specs] for cell in plan.cells}
    if plan.sweep:
        groups = {"sweeps of learning rates": list(plan.sweep), **groups}
    for title, runs in groups.items():
        counts = Counter(found[run].status for run in runs)
        total += counts
        grid.add_row(title, *(str(counts[status] or "") for status in shown))
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
