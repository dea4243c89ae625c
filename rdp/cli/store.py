"""The commands on stored runs: list, clean, adopt, pack, unpack, and export their weights."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from rdp import study
from rdp.cli.arguments import Gpus, StudyArgument, select
from rdp.errors import UserError
from rdp.jobs.gpus import lease
from rdp.store import Store, origin
from rdp.utils import paths
from rdp.utils.console import show
from rdp.utils.humanize import count, size

log = logging.getLogger(__name__)
app = typer.Typer()
store = typer.Typer(help="List and clean the run store.", no_args_is_help=True)
app.add_typer(store, name="store")


@app.command()
def adopt(
    name: StudyArgument,
    retrain: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Runs to retrain in all; at least one of each kind.")
    ] = None,
    cores: Annotated[int, typer.Option(min=1, max=1024, help="Cores to train on in parallel.")] = 1,
    gpus: Gpus = 0,
) -> None:
    """Adopt stale runs if a retrained sample gives the same bits."""
    planned = study.load(name)
    from rdp.archive import adopt  # imports numpy, so only after the study is checked

    with lease(gpus):
        groups = adopt.adopt(planned, paths.results(), retrain=retrain, cores=cores)
    if not groups:
        print(f"{planned.name}: no run is of other code")
    for group in groups:
        change = f"{group.title}: {group.old[:12]} -> {group.new[:12]}"
        if group.adoption is not None:
            print(f"{change}: adopted, {len(group.sample)} of {len(group.runs)} retrained ({group.adoption})")
        for line in group.obstacles:
            log.error("rdp: %s: not adopted: %s", change, line)
    if any(group.obstacles for group in groups):
        raise typer.Exit(1)


More = Annotated[
    list[str] | None,
    typer.Option("--study", metavar="FILE", help="Another study file; may be repeated."),
]


@store.command("ls")
def ls(more: More = None) -> None:
    """List stored runs, their status, and the studies that use them."""
    from rdp.archive import inventory

    plans, errors = inventory.load_studies(more or ())
    results = paths.results()
    table = Table("cell", "runs", "size", "status", "studies", "unneeded", title=str(Store(results).root))
    cells = list(inventory.cells(results, plans))
    for cell in cells:
        statuses = ", ".join(f"{n} {status}" for status, n in sorted(cell.statuses.items()))
        unneeded = str(len(cell.unneeded) or "")
        table.add_row(cell.name, str(len(cell.runs)), size(cell.bytes), statuses, ", ".join(cell.studies), unneeded)
    adopted = Store(results).adoptions
    runs, total = sum(len(cell.runs) for cell in cells), sum(cell.bytes for cell in cells)
    table.caption = f"{count(len(cells), 'cell')}, {count(runs, 'run')}, {size(total)}; "
    table.caption += count(len(adopted.all), "adoption")
    show(table)
    damaged = (f"{run.run}: {run.reason}" for cell in cells for run in cell.runs if run.status == "damaged")
    for line in (*errors, *adopted.damaged, *damaged):
        log.error("rdp: %s", line)


@store.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove the files; by default they are only listed.")] = False,
    unneeded: Annotated[bool, typer.Option("--unneeded", help="Also runs that no study uses.")] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Also runs of other code that were not adopted.")] = False,
    attempts: Annotated[bool, typer.Option("--attempts", help="Also checkpoints of unfinished runs.")] = False,
    more: More = None,
) -> None:
    """Show files of the store that are no longer needed, or remove them."""
    from rdp.archive import clean, inventory

    results = paths.results()
    plans, errors = inventory.load_studies(more or ())
    if unneeded:
        if errors:
            raise UserError(f"{errors[0]}: the runs of this study are unknown, so none can be removed as unneeded")
        if unknown := inventory.unknown_studies(results, plans.values()):
            raise UserError(
                f"{unknown[0]}: products of a study without a study file, so its runs are unknown; "
                "name its file with --study, or remove that folder"
            )
        print(f"studies: {', '.join(sorted(plans))}")
    cells = list(inventory.cells(results, plans))
    table, total, in_use = Table("run or file", "reason", "size"), 0, []
    for removal in list(clean.find_removals(results, cells, unneeded=unneeded, stale=stale, attempts=attempts)):
        with clean.hold(results, removal) as user:
            if yes and user is None:
                clean.remove(results, removal)
        if user is not None:
            in_use.append(user)
            continue
        total += removal.bytes
        name = removal.run if removal.whole else str(removal.paths[0].relative_to(Store(results).root))
        table.add_row(name, removal.reason, size(removal.bytes))
    table.caption = f"{size(total)} {'removed' if yes else 'to be removed: rdp store clean --yes'}"
    if table.row_count:
        show(table)
    else:
        print("nothing to remove")
    for line in dict.fromkeys(in_use):
        log.warning("rdp: not removed: %s", line)


@app.command()
def pack(
    name: StudyArgument,
    to: Annotated[str | None, typer.Option(metavar="FILE", help="By default results/recorded/STUDY.tar.")] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Include weights.")] = False,
) -> None:
    """Pack a study's finished runs and tables into one archive file."""
    planned = study.load(name)
    path = paths.parse(to) if to else Path("results") / "recorded" / f"{planned.name}.tar"
    from rdp.archive.pack import pack

    archive = pack(planned, paths.results(), path, weights=weights)
    runs = archive.manifest.runs
    missing = f", {runs['missing']} missing" if runs["missing"] else ""
    print(f"{path}: {count(sum(runs.values()) - runs['missing'], 'run')}{missing}, {size(path.stat().st_size)}")


@app.command()
def unpack(
    name: Annotated[str, typer.Argument(metavar="ARCHIVE", help="An archive file, or the name of a recorded study.")],
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Rebuild recorded results apart from your own: results/rebuilt/STUDY.")
    ] = False,
    to: Annotated[str | None, typer.Option(metavar="DIR", help="Another results directory.")] = None,
) -> None:
    """Verify an archive and add its runs to the store.

    With --recorded, rebuild recorded results apart from the store.
    """
    from rdp.archive import recorded as recorded_studies

    archive = recorded_studies.find(name)
    from rdp.archive import unpack

    if recorded:
        results = paths.results(to or str(paths.results() / "rebuilt" / archive.manifest.study))
        planned = recorded_studies.plan(archive, results, name)
        unpack.as_recorded(archive, planned, results)
        print(f"{results}: for its report, RDP_RESULTS={results} rdp report {planned.file}")
        return
    outcome = unpack.into_store(archive, paths.results(to))
    for line in outcome.rejected:
        log.error("rdp: %s", line)
    missing = archive.manifest.runs.get("missing", 0)
    print(
        f"{count(len(outcome.added), 'run')} added, {len(outcome.present)} already present, "
        f"{len(outcome.rejected)} rejected, {missing} missing from the archive"
    )
    if missing:
        file = outcome.study or archive.manifest.study
        print(f"to train the missing runs: snakemake --cores all --config study={file}")
    if outcome.rejected:
        raise typer.Exit(1)


@app.command()
def weights(
    name: StudyArgument,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run, as in `rdp plan`: architecture/dataset/method/seed-0003.")
    ],
    to: Annotated[str, typer.Option(metavar="FILE", help="File to write; its name ends in .safetensors.")],
) -> None:
    """Write a run's trained weights to a file that timm loads.

    Prints the Python code that loads the file.
    """
    planned, path = study.load(name), paths.parse(to)
    specs = select(planned, [run])
    if len(specs) != 1:
        raise UserError(f"{planned.file}: '{run}' is {len(specs)} runs; name one: {run}/seed-{specs[0].seed:04d}")
    if origin.is_recorded(paths.results()):
        raise UserError(f"{paths.results()}: holds recorded results ({origin.FILE}), which have no weights")
    from rdp.store import export

    for line in export.export(specs[0], paths.results(), path).lines:
        print(line)
