"""``rdp diff``: compare two studies, machines or versions."""

import logging
from typing import Annotated

import typer

from rdp.utils import paths
from rdp.utils.console import show

app = typer.Typer()
log = logging.getLogger(__name__)

_SIDE = "Name of a study, for results/NAME, or a folder of products, with a slash."


@app.command()
def diff(
    left: Annotated[str, typer.Argument(metavar="LEFT", help=_SIDE)],
    right: Annotated[str, typer.Argument(metavar="RIGHT", help=_SIDE)],
    as_json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write all differences to FILE; - prints only them.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Maximum number of rows per table.")] = 20,
) -> None:
    """Compare the numbers, verdicts and figures of two studies.

    Exits with status 0 if they are the same, and 1 if they differ.
    """
    import json

    from rdp import diffs
    from rdp.cli import diff_view
    from rdp.utils import files

    differences = diffs.compare(diffs.load(left), diffs.load(right))
    if as_json == "-":
        print(json.dumps(differences, indent=1, allow_nan=False, ensure_ascii=False))
    else:
        print(differences["summary"])
        show(*diff_view.tables(differences, most))
    if as_json not in (None, "-"):
        files.write_json(paths.parse(as_json), differences)
        log.info("differences written to %s", as_json)
    if not differences["same"]:
        raise typer.Exit(1)
