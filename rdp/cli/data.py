"""``rdp data``: datasets, what there is of them, and getting them ready."""

from typing import Annotated

import typer
from rich.table import Table

from rdp.errors import UserError
from rdp.utils import paths
from rdp.utils.console import show, tell

app = typer.Typer(help="Datasets: what there is, and getting it ready.", no_args_is_help=True)

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="a dataset's name")]


@app.command("list")
def data_list() -> None:
    """List the datasets: what of them is there, their size, checksum and licence, and how to get them."""
    from rdp.data import catalogue

    table = Table(*catalogue.COLUMNS)
    for row in catalogue.rows(paths.results()):
        table.add_row(*row)
    show(table)


@app.command("fetch")
def data_fetch(name: DatasetArgument) -> None:
    """Download what is absent of a dataset's files to RDP_DATA, and verify them."""
    from rdp.data import catalogue

    print(catalogue.fetch(name))


@app.command("verify")
def data_verify(name: DatasetArgument) -> None:
    """Verify a dataset's files against their published checksums, and its prepared form against its manifest."""
    from rdp.data import catalogue

    well, wrong = catalogue.verify(name, paths.results())
    for line in well:
        print(line)
    for line in wrong:
        tell(f"rdp: {UserError(line)}")
    if wrong:
        raise typer.Exit(2)


@app.command("prepare")
def data_prepare(
    name: DatasetArgument,
    offline: Annotated[bool, typer.Option("--offline", help="download nothing")] = False,
) -> None:
    """Read a dataset from RDP_DATA (downloading it where absent), verify it, and keep it ready to train on."""
    from rdp.data import prepared

    print(prepared.prepare(name, paths.results(), download=False if offline else None))


@app.command("describe")
def data_describe(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="of class folders, or of train/ and val/ with them")],
) -> None:
    """Print a declaration of a folder of images; as config/datasets/NAME.yaml it makes the folder the dataset NAME."""
    from rdp.data.describe import describe

    print(describe(paths.parse(folder)), end="")
