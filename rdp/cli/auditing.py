"""``rdp audit``: verify a study's results."""

import time
from typing import Annotated

import typer
from rich.table import Table

from rdp import study
from rdp.cli.arguments import StudyArgument
from rdp.utils import paths
from rdp.utils.console import show

app = typer.Typer()


@app.command("audit")
def audit_study(
    name: StudyArgument,
    retrain: Annotated[
        int, typer.Option(metavar="N", min=0, help="Retrain N runs and compare them with their records.")
    ] = 0,
    sample: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Draw the same runs as an earlier audit that reported TEXT.")
    ] = None,
    cores: Annotated[int, typer.Option(min=1, max=1024, help="Number of cores for retraining.")] = 1,
) -> None:
    """Verify a study's results from dataset to figure.

    Writes audit/index.html and audit/audit.json. Exits with status 1 if there are findings.
    """
    planned, results = study.load(name), paths.results()
    from rdp.audit import audit, report

    result = audit(planned, results, now=time.time(), retrain=retrain, sample=sample, cores=cores)
    table = Table("check", "checked", "findings", title=f"{planned.name}: audit", title_justify="left")
    for check in result.checks:
        table.add_row(check.name, f"{check.checked:,}", str(len(check.findings)))
    show(table)
    for check in result.checks:
        for note in check.notes:
            print(f"note ({check.name}): {note}")
    for finding in result.findings:
        print(finding)
    print(f"{report.write(planned, results, result)}: {result.verdict}")
    if result.findings:
        raise typer.Exit(1)
