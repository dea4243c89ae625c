"""``rdp plan``, ``status``, ``train``, ``tune`` and ``retry``: from a study to its runs."""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdp import study
from rdp.cli.arguments import Cores, Gpus, StudyArgument, select
from rdp.errors import UserError
from rdp.jobs import event_files
from rdp.jobs.gpus import lease
from rdp.spec import RunSpec
from rdp.store import Store, origin
from rdp.utils import paths
from rdp.utils.console import console, show
from rdp.utils.humanize import count

if TYPE_CHECKING:
    from rdp.store.record import RunRecord

app = typer.Typer()
log = logging.getLogger(__name__)

CheckpointSeconds = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", min=0, max=1e6, envvar="RDP_CHECKPOINT_SECONDS", help="Time between two checkpoints."
    ),
]

EventFolder = Annotated[
    str | None,
    typer.Option(metavar="DIR", envvar="RDP_TENSORBOARD", help="Write event files for TensorBoard to this folder."),
]


@app.command()
def plan(name: StudyArgument) -> None:
    """Show a study's cells, runs and expected cost; start nothing."""
    from rdp.cli.plan_view import plan_tables

    show(*plan_tables(study.load(name), paths.results()))


@app.command()
def status(
    name: StudyArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until all runs are done, or Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.5, max=86400, help="Time between two refreshes.")
    ] = 2,
) -> None:
    """Show which runs are done, running, waiting or failed.

    For a run in training it shows the host, the progress and the expected end. For a failed run it shows the end of
    its log.
    """
    from rdp.cli import status_view
    from rdp.study.states import Snapshot

    planned = study.load(name)
    if watch:
        with suppress(KeyboardInterrupt):
            status_view.watch(planned, paths.results(), console(), every)
    else:
        show(*status_view.tables(Snapshot(planned, paths.results())))


@app.command()
def watch(
    name: StudyArgument,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.5, max=86400, help="Time between two versions of the page.")
    ] = 5,
) -> None:
    """Write a page with training curves that reloads itself.

    The page, watch.html, shows runs in training and those that finished last. The command ends when all runs are done,
    or with Ctrl-C.
    """
    planned = study.load(name)
    from rdp.report import watch_page

    with suppress(KeyboardInterrupt):
        watch_page.watch(planned, paths.results(), every)


@app.command()
def train(
    name: StudyArgument,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Runs or cells, as in `rdp plan` (architecture/dataset/method, …/seed-0003), or paths of receipts; "
            "by default the whole study.",
        ),
    ] = None,
    checkpoint_seconds: CheckpointSeconds = 60,
    cores: Cores = 1,
    gpus: Gpus = 0,
    tensorboard: EventFolder = None,
) -> None:
    """Train the runs that have no valid record, seed by seed."""
    planned = study.load(name)
    specs = select(planned, runs or [])
    records = _run(planned, specs, checkpoint_seconds, cores, gpus, tensorboard)
    failed = sum(record.status == "failed" for record in records)
    if failed:
        log.error("%d of %d runs failed; rdp status %s shows why", failed, len(records), name)


@app.command()
def tune(
    name: StudyArgument,
    cells: Annotated[
        list[str] | None, typer.Argument(metavar="CELL", help="Cells, as in `rdp plan`; by default all.")
    ] = None,
    checkpoint_seconds: CheckpointSeconds = 60,
    cores: Cores = 1,
    gpus: Gpus = 0,
    tensorboard: EventFolder = None,
) -> None:
    """Train the sweeps and print the chosen rates and gains."""
    planned, results = study.load(name), paths.results()
    tuned = {spec.cell: spec for spec in select(planned, cells or []) if spec.tuning}
    if not tuned:
        raise UserError(f"{planned.file}: no learning rate to choose: the study has no 'tune', or not for these cells")
    for spec in tuned.values():
        records = _run(planned, spec.candidates(), checkpoint_seconds, cores, gpus, tensorboard)
        from rdp.jobs import tuning

        tuning.write(spec, records, results)
        chosen = tuning.choose(spec, records)
        warning = "; runs of the sweep diverged at every candidate" if chosen.diverged else ""
        print(f"{spec.cell}: {chosen.choice}{warning}")


def _run(
    planned: study.Plan,
    specs: list[RunSpec],
    checkpoint_seconds: float,
    cores: int,
    gpus: int,
    tensorboard: str | None,
) -> "list[RunRecord]":
    """Train runs and return their records, with the claims as they are noted down before the training."""
    results = paths.results()
    origin.refuse(results)
    from rdp.claims import preregistration  # imports numpy and more, in seconds: only once the arguments are valid
    from rdp.jobs.parallel import run_job

    events = paths.parse(tensorboard) if tensorboard else None
    if events is not None:
        event_files.prepare(events)
    preregistration.record_claims(results)
    options: dict[str, Any] = {"checkpoint_seconds": checkpoint_seconds, "cores": cores, "event_folder": events}
    with lease(gpus):
        return run_job(specs, results, planned.device, **options)


@app.command()
def retry(name: StudyArgument) -> None:
    """Forget failed and damaged runs, so that they train again."""
    from rdp.study.states import states

    planned, results = study.load(name), paths.results()
    origin.refuse(results)
    store = Store(results)
    failed = [spec for spec, state in states(planned, results, verify=True) if state.status in {"failed", "damaged"}]
    for spec in failed:
        store.remove_receipt(spec.run)
    print(f"{count(len(failed), 'run')} forgotten")
