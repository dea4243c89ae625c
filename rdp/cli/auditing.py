"""``rdp audit``: whether each number follows from a record, and each record from code and data."""

import time
from typing import Annotated

import typer
from rich.table import Table

from rdp import study
from rdp.cli.arguments import StudyArgument
from rdp.utils import paths
from rdp.utils.console import show, tell

app = typer.Typer()


@app.command("audit")
def audit_study(
    name: StudyArgument,
    retrain: Annotated[
        int, typer.Option(metavar="N", min=0, help="train so many runs again, and compare with their records")
    ] = 0,
    sample: Annotated[
        str | None, typer.Option(metavar="TEXT", help="draw them by this text, as an earlier audit told it")
    ] = None,
    cores: Annotated[int, typer.Option(min=1, max=1024, help="to train on, side by side")] = 1,
) -> None:
    """Check a study's results, from dataset to figure: audit/index.html. Exits with 1 where something is found."""
    planned, results = study.load(name), paths.results()
    from rdp.audit import audit, page

    found = audit(planned, results, now=time.time(), retrain=retrain, sample=sample, cores=cores, say=tell)
    shown = Table("check", "looked at", "found", title=f"{planned.name}: audit", title_justify="left")
    for check in found.checks:
        shown.add_row(check.name, f"{check.looked_at:,}", str(len(check.findings) or "nothing"))
    show(shown)
    for check in found.checks:
        for note in check.notes:
            print(f"to know ({check.name}): {note}")
    for finding in found.findings:
        print(finding)
    print(f"{page.write(planned, results, found)}: {found.verdict}")
    if found.findings:
        raise typer.Exit(1)
