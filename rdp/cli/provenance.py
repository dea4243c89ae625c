"""``rdp checklist`` and ``crate``: what a finished study says of where it came from."""

import typer

from rdp import study
from rdp.cli.arguments import StudyArgument
from rdp.utils import paths

app = typer.Typer()


@app.command()
def checklist(name: StudyArgument) -> None:
    """Answer the NeurIPS paper checklist as far as a study's records can: report/checklist.html."""
    planned = study.load(name)
    from rdp.provenance import checklist

    print(checklist.write(planned, paths.results()))


@app.command()
def crate(name: StudyArgument) -> None:
    """Pack a study's products into a research object that says where they came from, an RO-Crate: crate/."""
    planned = study.load(name)
    from rdp.provenance import crate

    print(crate.write(planned, paths.results()))
