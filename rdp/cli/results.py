"""The commands that turn records into results: tables, figures, verdicts, reports, audits and comparisons."""

import json
import logging
import time
from typing import Annotated

import typer
from rich.table import Table

from rdp import study
from rdp.cli.arguments import Gpus, StudyArgument
from rdp.jobs.gpus import lease
from rdp.store import origin
from rdp.utils import files, paths
from rdp.utils.console import show
from rdp.utils.humanize import count

log = logging.getLogger(__name__)
app = typer.Typer()

FromTables = Annotated[
    bool, typer.Option("--from-tables", help="Use the existing tables, figures and verdicts, as the workflow does.")
]
_SIDE = "Name of a study, for results/NAME, or a folder of products, with a slash."


@app.command()
def collect(name: StudyArgument) -> None:
    """Collect a study's records into tables.

    Writes records.parquet, history.parquet and sweep.parquet.
    """
    from rdp.tables import collect

    table = collect.write(study.load(name), paths.results())
    counts = ", ".join(f"{n} {status}" for status, n in table["status"].value_counts().items())
    print(f"{count(len(table), 'run')}: {counts}")


@app.command()
def claims(name: StudyArgument, from_tables: FromTables = False) -> None:
    """Decide the claims from a study's records.

    Writes claims.json and prints the verdicts.
    """
    planned, results = study.load(name), paths.results()
    from rdp import tables
    from rdp.claims import verdict_json
    from rdp.claims.model import KINDS
    from rdp.tables import collect

    if not from_tables:
        collect.write(planned, results)
    content = verdict_json.write(tables.load(planned, results))
    shown = Table("claim", "title", "source", *KINDS, title=f"{planned.name}: verdicts", title_justify="left")
    for row in verdict_json.summary_rows(content):
        shown.add_row(*row)
    show(shown)


@app.command()
def probe(
    name: StudyArgument,
    probe_name: Annotated[str, typer.Argument(metavar="PROBE", help="Name of a probe.")],
    cores: Annotated[int, typer.Option(metavar="N", min=1, help="Measure N cells at a time.")] = 1,
) -> None:
    """Measure a study's networks with a probe.

    Measures them at initialisation and trained, and writes probes/PROBE.parquet.
    """
    planned = study.load(name)
    origin.refuse(paths.results())
    from rdp.tables import measurements

    print(measurements.write(planned, probe_name, paths.results(), cores))


@app.command()
def speed(name: StudyArgument, gpus: Gpus = 0) -> None:
    """Measure the training throughput of a study's methods.

    Writes speed.parquet.
    """
    planned = study.load(name)
    origin.refuse(paths.results())
    with lease(gpus):
        from rdp.bench import throughput  # imports torch, in seconds: only once the study is valid

        print(throughput.write(planned, paths.results()))


@app.command()
def plot(
    name: StudyArgument, names: Annotated[list[str], typer.Argument(metavar="FIGURE", help="Names of figures.")]
) -> None:
    """Draw figures of a study, with their data and captions.

    Writes figures/FIGURE.svg, .pdf, .png, .csv (the data) and .rst (the caption).
    """
    planned = study.load(name)
    from rdp import tables
    from rdp.report import figures  # imports matplotlib, in seconds: only once the study is valid

    loaded = tables.load(planned, paths.results())
    for figure in names:
        figures.write(loaded, figure, paths.results())


@app.command()
def report(name: StudyArgument, from_tables: FromTables = False) -> None:
    """Write a study's report, paper and checklist.

    Writes report/index.html, paper.pdf and checklist.html from the records so far, and names missing ones.
    """
    planned, results = study.load(name), paths.results()
    # Imports take seconds and write to the user's cache: only once the study is valid.
    from rdp import tables
    from rdp.claims import verdict_json
    from rdp.provenance import checklist
    from rdp.report import contents, page, paper
    from rdp.tables import collect, measurements

    if not from_tables:
        from rdp.report import figures

        collect.write(planned, results)
        if not origin.is_recorded(results):  # recorded results come with their measurements
            for measured in planned.study.probes:
                measurements.write(planned, measured, results)
            if planned.study.speed_rounds:
                from rdp.bench import throughput

                throughput.write(planned, results)
        loaded = tables.load(planned, results)
        for figure in contents.figures(planned):
            figures.write(loaded, figure, results)
        verdict_json.write(loaded)
    print(page.write(planned, results))
    print(paper.write(planned, results))
    print(checklist.write(planned, results))


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
    from rdp.audit import audit, findings

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
    print(f"{findings.write(planned, results, result)}: {result.verdict}")
    if result.findings:
        raise typer.Exit(1)


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
    from rdp import diffs
    from rdp.cli import diff_view

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
