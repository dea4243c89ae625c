"""``rdp plan``, ``status``, ``train``, ``tune`` and ``retry``: from a study to its runs."""

import sys
from contextlib import suppress
from typing import Annotated

import typer

from rdp import study
from rdp.cli.arguments import Gpus, StudyArgument, select
from rdp.errors import UserError
from rdp.jobs.gpus import lease
from rdp.store import origin
from rdp.utils import paths
from rdp.utils.console import console, show, tell
from rdp.utils.humanize import count

app = typer.Typer()

CheckpointSeconds = Annotated[
    float, typer.Option(min=0, max=1e6, envvar="RDP_CHECKPOINT_SECONDS", help="time between two checkpoints")
]
Cores = Annotated[
    int, typer.Option(min=1, max=1024, help="train runs side by side on so many, each with its own thread count")
]


@app.command()
def plan(name: StudyArgument) -> None:
    """Show a study's cells and runs, and what is done. Nothing is started."""
    from rdp.cli.plan_view import plan_tables

    show(*plan_tables(study.load(name), paths.results()))


@app.command()
def status(
    name: StudyArgument,
    watch: Annotated[bool, typer.Option("--watch", help="show it anew until all is done, or Ctrl-C")] = False,
    every: Annotated[float, typer.Option(min=0.5, max=86400, help="seconds between two looks")] = 2,
) -> None:
    """Show where a study stands: what runs where and how far it is, what failed and the last lines of its log."""
    from rdp.cli import status_view as standing

    planned = study.load(name)
    if watch:
        with suppress(KeyboardInterrupt):
            standing.watch(planned, paths.results(), console(), every)
    else:
        show(*standing.tables(standing.look(planned, paths.results())))


@app.command()
def train(
    name: StudyArgument,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="runs or cells as `rdp plan` names them (architecture/dataset/method, …/seed-0003), or paths "
            "of receipts; by default the whole study",
        ),
    ] = None,
    checkpoint_seconds: CheckpointSeconds = 60,
    cores: Cores = 1,
    gpus: Gpus = 0,
) -> None:
    """Train runs of a study, each unless its record is there already."""
    planned = study.load(name)
    specs = select(planned, runs or [])
    origin.refuse(paths.results())
    from rdp.claims import (
        preregistration,  # after what was asked for is known to be good: numpy and all that take seconds
    )
    from rdp.jobs.parallel import run_job

    preregistration.record_claims(paths.results())
    options = {"checkpoint_seconds": checkpoint_seconds, "cores": cores}
    with lease(gpus, tell):
        records = run_job(specs, paths.results(), planned.device, **options)
    failed = sum(record.status == "failed" for record in records)
    if failed:
        print(f"{failed} of {len(records)} runs failed; rdp status {name} says why", file=sys.stderr)


@app.command()
def tune(
    name: StudyArgument,
    cells: Annotated[
        list[str] | None, typer.Argument(metavar="[CELL]...", help="cells as `rdp plan` names them; by default all")
    ] = None,
    checkpoint_seconds: CheckpointSeconds = 60,
    cores: Cores = 1,
    gpus: Gpus = 0,
) -> None:
    """Train the sweeps that choose learning rates, and say what each chose."""
    planned, results = study.load(name), paths.results()
    chosen = {spec.cell: spec for spec in select(planned, cells or []) if spec.tuning}
    if not chosen:
        raise UserError(f"{planned.file}: no learning rate to choose: the study has no 'tune', or not for these cells")
    origin.refuse(results)
    from rdp.claims import preregistration
    from rdp.jobs import tuning
    from rdp.jobs.parallel import run_job

    preregistration.record_claims(results)
    options = {"checkpoint_seconds": checkpoint_seconds, "cores": cores}
    for spec in chosen.values():
        with lease(gpus, tell):
            records = run_job(spec.candidates(), results, planned.device, **options)
        tuning.write(spec, records, results)
        chosen_rate = tuning.choose(spec, records)
        warning = ", at which, as at every other, runs of the sweep diverged" if chosen_rate.diverged else ""
        print(f"{spec.cell}: learning rate {chosen_rate.learning_rate}{warning}")


@app.command()
def retry(name: StudyArgument) -> None:
    """Forget a study's failed runs, so that the next snakemake trains them again."""
    from rdp.store import Store
    from rdp.study.states import states

    planned = study.load(name)
    origin.refuse(paths.results())
    store = Store(paths.results())
    failed = [
        spec for spec, state in states(planned, paths.results(), verify=True) if state.status in {"failed", "damaged"}
    ]
    for spec in failed:
        store.forget(spec.run)
    print(f"{count(len(failed), 'run')} forgotten")
