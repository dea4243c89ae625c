"""``rdp adopt`` and ``rdp store``: life with runs that are there."""

from typing import Annotated

import typer
from rich.table import Table

from rdp import study
from rdp.cli.arguments import Gpus, StudyArgument
from rdp.errors import UserError
from rdp.jobs.gpus import lease
from rdp.store import Store
from rdp.utils import paths
from rdp.utils.console import show, tell
from rdp.utils.humanize import count, size

app = typer.Typer()
store = typer.Typer(help="What is kept of runs: list it, clean it, carry it elsewhere.", no_args_is_help=True)
app.add_typer(store, name="store")


@app.command()
def adopt(
    name: StudyArgument,
    retrain: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="train so many again in all; one of each kind at least")
    ] = None,
    cores: Annotated[int, typer.Option(min=1, max=1024, help="train runs side by side on so many")] = 1,
    gpus: Gpus = 0,
) -> None:
    """Accept a change of the training code as harmless, after some runs trained again came to the same bits."""
    planned = study.load(name)
    from rdp.archive import adopt  # after the study is known to be good: numpy and all that take seconds

    with lease(gpus):
        groups = adopt.adopt(planned, paths.results(), retrain=retrain, cores=cores, say=tell)
    if not groups:
        print(f"{planned.name}: no run was made by other code")
    for group in groups:
        told = f"{group.title}: {group.old[:12]} -> {group.new[:12]}"
        if group.adoption is not None:
            print(f"{told}: adopted, {len(group.sample)} of {len(group.runs)} trained again ({group.adoption})")
        for line in group.wrong:
            tell(f"rdp: {told}: not adopted: {line}")
    if any(group.wrong for group in groups):
        raise typer.Exit(1)


More = Annotated[
    list[str] | None,
    typer.Option("--study", metavar="FILE", help="a study that lies elsewhere; may be repeated"),
]


@store.command("ls")
def ls(more: More = None) -> None:
    """List the store's cells: their runs and how they stand, what they take, and which studies ask for them."""
    from rdp.archive import inventory

    known, unreadable = inventory.plans(more or ())
    results = paths.results()
    table = Table("cell", "runs", "size", "how they stand", "studies", "of no study", title=str(Store(results).root))
    cells = list(inventory.cells(results, known))
    for cell in cells:
        stand = ", ".join(f"{n} {status}" for status, n in sorted(cell.statuses.items()))
        without = str(len(cell.unneeded) or "")
        table.add_row(cell.name, str(len(cell.runs)), size(cell.bytes), stand, ", ".join(cell.wanted), without)
    adopted = Store(results).adoptions
    runs, taken = sum(len(cell.runs) for cell in cells), sum(cell.bytes for cell in cells)
    table.caption = f"{count(len(cells), 'cell')}, {count(runs, 'run')}, {size(taken)}; "
    table.caption += count(len(adopted.all), "adoption")
    show(table)
    reasons = (f"{kept.run}: {kept.reason}" for cell in cells for kept in cell.runs if kept.status == "damaged")
    for line in (*unreadable, *adopted.damaged, *reasons):
        tell(f"rdp: {line}")


@store.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="remove it; else it is only shown")] = False,
    unneeded: Annotated[bool, typer.Option("--unneeded", help="runs that no study asks for, too")] = False,
    stale: Annotated[bool, typer.Option("--stale", help="runs that other code made, and not adopted, too")] = False,
    attempts: Annotated[
        bool, typer.Option("--attempts", help="checkpoints of runs that are not done, too: they begin anew")
    ] = False,
    more: More = None,
) -> None:
    """Show what nothing in the store needs any more; with --yes, remove it. What is in use stays."""
    from rdp.archive import clean, inventory

    results = paths.results()
    known, unreadable = inventory.plans(more or ())
    if unneeded:
        if unreadable:
            raise UserError(f"{unreadable[0]}: what it asks for is not known, so nothing is removed as unneeded")
        if strange := inventory.strangers(results, known.values()):
            raise UserError(
                f"{strange[0]}: of a study whose file is not found, so what it asks for is not known; "
                "name its file with --study, or remove that folder"
            )
        print(f"unneeded: by the studies {', '.join(sorted(known))}")
    cells = list(inventory.cells(results, known))
    some = list(clean.found(results, cells, unneeded=unneeded, stale=stale, attempts=attempts))
    table, total, left = Table("what", "why", "size"), 0, []
    for removal in some:
        with clean.held(results, removal) as why:
            if yes and why is None:
                clean.remove(results, removal)
        if why is not None:
            left.append(why)
            continue
        total += removal.bytes
        what = removal.run if removal.whole else str(removal.paths[0].relative_to(Store(results).root))
        table.add_row(what, removal.why, size(removal.bytes))
    table.caption = f"{size(total)} {'removed' if yes else 'to be removed: rdp store clean --yes'}"
    if table.row_count:
        show(table)
    else:
        print("nothing to remove")
    for line in dict.fromkeys(left):
        tell(f"rdp: left: {line}")
