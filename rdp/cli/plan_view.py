"""Tables of ``rdp plan``: cells, finished runs, expected cost, and the claims that a study can decide."""

from pathlib import Path

from rich.table import Table

from rdp.spec import RunSpec
from rdp.store.record import STATUSES
from rdp.study import Plan, workload
from rdp.study.resources import ResourceEstimator
from rdp.study.states import states
from rdp.utils.humanize import count, duration, size


def plan_tables(plan: Plan, results: Path) -> list[Table]:
    """Return the table of a study's cells, and the tables of skipped combinations and of claims unless empty."""
    done = {spec.run for spec, state in states(plan, results) if state.status in STATUSES}
    return [_cells(plan, results, done), *_skipped(plan), *_claims(plan)]


def _cells(plan: Plan, results: Path, done: set[str]) -> Table:
    needs = ResourceEstimator(results, plan.device)
    columns = ("cell", "seeds", "done", "sweep", "epochs", "of", "examples a run", "a run", "memory", "job")
    table = Table(*columns, title=f"{plan.name}: {plan.study.title}", title_justify="left")
    for cell in plan.cells:
        spec = cell.specs[0]
        sweep = spec.candidates()
        finished, swept = (str(sum(run.run in done for run in runs)) for runs in (cell.specs, sweep))
        need = needs.estimate(cell.specs[:1])
        table.add_row(
            cell.title,
            str(len(cell.specs)),
            finished,
            f"{swept}/{len(sweep)}" if sweep else "",
            str(spec.recipe.epochs),
            spec.recipe.budget,
            f"{_examples(spec):,}",
            f"{'' if need.measured else '~'}{duration(need.seconds)}",
            size(need.bytes),
            cell.id,
        )
    specs = {spec.run: spec for spec in (*plan.sweep.values(), *plan.specs)}
    remaining = [spec for run, spec in specs.items() if run not in done]
    jobs = len(plan.cells) * len(plan.seed_batches()) + sum(cell.specs[0].tuning is not None for cell in plan.cells)
    runs = count(len(specs) - len(plan.sweep), "run") + (f" (and {len(plan.sweep)} of sweeps)" if plan.sweep else "")
    counts = f"{count(len(plan.cells), 'cell')}, {count(jobs, 'job')}, {runs}, {len(done)} done"
    table.caption = f"{counts}; {sum(map(_examples, remaining)):,} examples to train on"
    if any(spec.recipe.budget != "steps" for spec in specs.values()):
        table.caption += " if every budget were steps (the masks decide the other budgets)"
    if remaining:
        table.caption += f"\n{_remaining(plan, remaining, needs)}"
    return table


def _remaining(plan: Plan, specs: list[RunSpec], needs: ResourceEstimator) -> str:
    """Return two lines on runs that are still to train: their time on one core or GPU, and their disk space."""
    need = needs.estimate(specs)
    estimated = "" if need.measured else " (~: estimated from network size, since no similar run was measured)"
    width, unit = (specs[0].processes, "GPU") if plan.device == "cuda" else (specs[0].cores, "core")
    hours = f"{need.seconds * width / 3600:.3g} {unit}-hours"
    datasets = {cell.dataset for cell in plan.cells}
    stored = sum(map(workload.run_bytes, specs)) + sum(map(workload.data_bytes, datasets))
    checkpoint = max(map(workload.checkpoint_bytes, specs))
    return (
        f"about {duration(need.seconds)} of training left, one run after another: {hours}{estimated}\n"
        f"about {size(stored)} of disk, and {size(checkpoint)} for each run in training"
    )


def _skipped(plan: Plan) -> list[Table]:
    table = Table("left out", "why")
    for skip in plan.skipped:
        table.add_row(f"{skip.architecture}/{skip.dataset}/{skip.label}", skip.reason)
    return [table] if plan.skipped else []


def _claims(plan: Plan) -> list[Table]:
    from rdp.claims import model, planning  # imports scipy, in half a second

    table = Table("claim", "on datasets", "settings", "its seeds", title="claims it tests", title_justify="left")
    for prospect in planning.prospects(model.load(), plan):
        notes = "; ".join(prospect.obstacles or prospect.visible)
        outcome = "cannot decide it" if prospect.obstacles else "can decide it"
        table.add_row(
            prospect.claim, prospect.kind, str(prospect.settings), f"{outcome}: {notes}" if notes else outcome
        )
    table.caption = "with probability 0.8, after Holm's correction; config/claims.yaml states the claims"
    return [table] if table.row_count else []


def _examples(spec: RunSpec) -> int:
    """Return the number of examples that a run trains on if its budget is steps."""
    return workload.nominal_steps(spec) * spec.recipe.batch_size
