"""``rdp record`` and ``unpack``: bundles of recorded results."""

from pathlib import Path
from typing import Annotated

import typer

from rdp import study
from rdp.cli.arguments import StudyArgument
from rdp.utils import humanize, paths

app = typer.Typer()


@app.command()
def record(
    name: StudyArgument,
    to: Annotated[str | None, typer.Option(metavar="DIR", help="by default results/recorded/STUDY")] = None,
) -> None:
    """Pack a study's results into a bundle small enough to be committed, from which its report is made again."""
    planned = study.load(name)
    folder = paths.named(to) if to else Path("results") / "recorded" / planned.name
    from rdp.archive import bundle, packing

    made = packing.write(planned, paths.results(), folder)
    print(f"{made.folder}: {humanize.count(len(made.files) + 1, 'file')}, {humanize.size(bundle.size(made))}")


@app.command()
def unpack(
    name: StudyArgument,
    to: Annotated[
        str | None, typer.Option(metavar="DIR", help="a results directory; by default results/rebuilt/STUDY")
    ] = None,
) -> None:
    """Verify a study's recorded bundle, and unpack it into a results directory of its own."""
    from rdp.archive import bundle, unpacking

    found = bundle.find(name)
    planned = bundle.plan(found, name)
    results = paths.results(to or str(paths.results() / "rebuilt" / planned.name))
    unpacking.write(found, planned, results)
    print(f"{results}: for its report, RDP_RESULTS={results} rdp report {planned.file}")
