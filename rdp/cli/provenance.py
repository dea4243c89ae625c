"""``rdp checklist`` and ``rdp crate``: document where a finished study's results come from."""

import typer

from rdp import study
from rdp.cli.arguments import StudyArgument
from rdp.utils import paths

app = typer.Typer()


@app.command()
def checklist(name: StudyArgument) -> None:
    """Answer the NeurIPS paper checklist from a study's records.

    Writes report/checklist.html.
    """
    planned = study.load(name)
    from rdp.provenance import checklist

    print(checklist.write(planned, paths.results()))


@app.command()
def crate(name: StudyArgument) -> None:
    """Pack a study's products and their provenance as an RO-Crate.

    Writes the folder crate/.
    """
    planned = study.load(name)
    from rdp.provenance import crate

    print(crate.write(planned, paths.results()))
