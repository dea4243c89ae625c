"""``rdp plan``: what a study asks for, what of it is done, and what the rest will take; torch is not imported."""

from pathlib import Path

from rich.table import Table

from rdp.spec import RunSpec
from rdp.store.record import STATUSES
from rdp.study import Plan, workload
from rdp.study.resources import ResourceEstimator
from rdp.study.states import states
from rdp.utils.humanize import count, duration, size


def plan_tables(plan: Plan, results: Path) -> list[Table]:
    """A study's cells, with how many of their runs are done and what they need, and what was left out."""
    done = {spec.run for spec, state in states(plan, results) if state.status in STATUSES}
    needs = ResourceEstimator(results, plan.device)
    columns = ("cell", "seeds", "done", "sweep", "epochs", "of", "examples a run", "a run", "memory", "job")
    table = Table(*columns, title=f"{plan.name}: {plan.study.title}", title_justify="left")
    for cell in plan.cells:
        recipe, sweep = cell.specs[0].recipe, cell.specs[0].candidates()
        finished = sum(spec.run in done for spec in cell.specs)
        swept = f"{sum(spec.run in done for spec in sweep)}/{len(sweep)}" if sweep else ""
        examples = _examples(cell.specs[0])
        counts = str(len(cell.specs)), str(finished), swept, str(recipe.epochs), recipe.budget, f"{examples:,}"
        need = needs.estimate(cell.specs[:1])
        takes = f"{'' if need.measured else '~'}{duration(need.seconds)}", size(need.bytes)
        table.add_row(cell.title, *counts, *takes, cell.id)
    specs = {spec.run: spec for spec in (*plan.sweep.values(), *plan.specs)}
    left = [spec for run, spec in specs.items() if run not in done]
    jobs = len(plan.cells) * len(plan.seed_batches()) + sum(cell.specs[0].tuning is not None for cell in plan.cells)
    swept = f" (and {len(plan.sweep)} of sweeps)" if plan.sweep else ""
    runs = ", ".join(
        [count(len(plan.cells), "cell"), count(jobs, "job"), count(len(specs) - len(plan.sweep), "run") + swept]
    )
    table.caption = f"{runs}, {len(done)} done; {sum(map(_examples, left)):,} examples to train on"
    if any(spec.recipe.budget != "steps" for spec in specs.values()):
        table.caption += ", counted as if every budget were steps: what the others come to follows from the masks"
    table.caption += f"\n{_left(plan, left, needs)}" if left else ""
    tables = [table]
    if plan.skipped:
        left_out = Table("left out", "why")
        for skip in plan.skipped:
            left_out.add_row(f"{skip.architecture}/{skip.dataset}/{skip.label}", skip.reason)
        tables.append(left_out)
    return [*tables, *_claims_table(plan)]


def _left(plan: Plan, left: list[RunSpec], needs: ResourceEstimator) -> str:
    """What the runs that are left will take: time one after another, hours of GPUs or of cores, and disk."""
    need = needs.estimate(left)
    guessed = "" if need.measured else " (~: from the size of networks, since none like them was measured here)"
    width = left[0].processes if plan.device == "cuda" else left[0].cores
    hours = f"{need.seconds * width / 3600:.3g} {'GPU' if plan.device == 'cuda' else 'core'}-hours"
    datasets = {cell.dataset for cell in plan.cells}
    kept = sum(map(workload.run_bytes, left)) + sum(map(workload.data_bytes, datasets))
    disk = f"about {size(kept)} of disk, and {size(max(map(workload.checkpoint_bytes, left)))} for each run in training"
    return f"about {duration(need.seconds)} of training left, one run after another: {hours}{guessed}\n{disk}"


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
    return workload.nominal_steps(spec) * spec.recipe.batch_size
