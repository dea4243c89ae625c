"""``rdp weights``: trained weights for other programs."""

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
