"""``rdp adopt`` and ``rdp store``: life with runs that are there."""

from typing import Annotated

import typer

from rdp import leases, places, study
from rdp.cli.arguments import Gpus, StudyArgument
from rdp.terminal import tell

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
    from rdp import adopting  # after the study is known to be good: numpy and all that take seconds

    with leases.gpus(gpus, tell):
        groups = adopting.adopt(planned, places.results(), retrain=retrain, cores=cores, say=tell)
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
