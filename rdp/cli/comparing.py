"""``rdp diff``: two studies, stacks or versions side by side."""

from typing import Annotated

import typer

from rdp.utils import paths
from rdp.utils.console import show, tell

app = typer.Typer()

SideArgument = typer.Argument(help="a study's name (results/NAME), or a folder of its products, with a slash")


@app.command()
def diff(
    left: Annotated[str, SideArgument],
    right: Annotated[str, SideArgument],
    as_json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="write all of it there too; - for nothing but it")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="rows of a table that are shown")] = 20,
) -> None:
    """Compare two studies' products: what changed in numbers, verdicts and figures. Status 0: nothing, 1: something."""
    import json

    from rdp import diffs
    from rdp.diffs import shown
    from rdp.utils import files

    found = diffs.compare(diffs.load(left), diffs.load(right))
    if as_json == "-":
        print(json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False))
    else:
        print(found["summary"])
        show(*shown.tables(found, most))
    if as_json not in (None, "-"):
        files.write_json(paths.parse(as_json), found)
        tell(f"rdp diff: written to {as_json}")
    if not found["same"]:
        raise typer.Exit(1)
