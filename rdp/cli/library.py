"""``rdp weights`` and ``snakefile``: what a run leaves for other people's programs, and where the workflow is."""

from typing import Annotated

import typer

from rdp import study
from rdp.cli.arguments import StudyArgument, select
from rdp.errors import UserError
from rdp.store import origin
from rdp.utils import paths

app = typer.Typer()


@app.command()
def weights(
    name: StudyArgument,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="as `rdp plan` names cells: architecture/dataset/method/seed-0003")
    ],
    to: Annotated[str, typer.Option(metavar="FILE", help="ends in .safetensors")],
) -> None:
    """Write a run's trained weights to a file that timm loads, and print the Python that does."""
    planned, path = study.load(name), paths.named(to)
    found = select(planned, [run])
    if len(found) != 1:
        raise UserError(f"{planned.file}: '{run}' is {len(found)} runs; name one: {run}/seed-{found[0].seed:04d}")
    if origin.holds(paths.results()):
        raise UserError(f"{paths.results()}: holds recorded results ({origin.MARK}), which have no weights")
    from rdp.store import export

    for line in export.export(found[0], paths.results(), path).lines:
        print(line)


@app.command()
def snakefile() -> None:
    """Print the path of the workflow, for snakemake --snakefile where rdp was installed without its checkout."""
    print(paths.snakefile())
