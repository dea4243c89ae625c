"""The commands of ``rdp data``: list, fetch, verify, prepare and describe datasets."""

import logging
from typing import Annotated

import typer
from rich.table import Table

from rdp.errors import UserError
from rdp.utils import paths
from rdp.utils.console import show

log = logging.getLogger(__name__)
app = typer.Typer(help="List, download, verify and prepare datasets.", no_args_is_help=True)

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Name of the dataset.")]


@app.command("list")
def data_list() -> None:
    """List the datasets with their files, size, checksum and licence."""
    from rdp.data import catalogue

    table = Table(*catalogue.COLUMNS)
    for row in catalogue.rows(paths.results()):
        table.add_row(*row)
    show(table)


@app.command("fetch")
def data_fetch(name: DatasetArgument) -> None:
    """Download a dataset's missing files and verify them.

    The files go to the folder that RDP_DATA names.
    """
    from rdp.data import catalogue

    print(catalogue.fetch(name))


@app.command("verify")
def data_verify(name: DatasetArgument) -> None:
    """Verify a dataset's files and prepared form by checksums."""
    from rdp.data import catalogue

    intact, bad = catalogue.verify(name, paths.results())
    for line in intact:
        print(line)
    for line in bad:
        log.error("rdp: %s", UserError(line))
    if bad:
        raise typer.Exit(2)


@app.command("prepare")
def data_prepare(
    name: DatasetArgument,
    offline: Annotated[bool, typer.Option("--offline", help="Do not download missing files.")] = False,
) -> None:
    """Fetch, verify and convert a dataset for training."""
    from rdp.data import prepared

    print(prepared.prepare(name, paths.results(), download=False if offline else None))


@app.command("describe")
def data_describe(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Folder of class folders, or of train/ and val/ with class folders.")
    ],
) -> None:
    """Print a declaration of a folder of images.

    Save it as config/datasets/NAME.yaml to make the folder the dataset NAME.
    """
    from rdp.data.class_folders import describe

    print(describe(paths.parse(folder)), end="")
