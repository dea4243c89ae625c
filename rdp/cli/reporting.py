"""``rdp collect``, ``claims``, ``probe``, ``speed``, ``plot`` and ``report``: from records to verdicts and figures."""

from typing import Annotated

import typer
from rich.table import Table

from rdp import study
from rdp.cli.arguments import Gpus, StudyArgument
from rdp.jobs.gpus import lease
from rdp.store import origin
from rdp.utils import paths
from rdp.utils.console import show
from rdp.utils.humanize import count

app = typer.Typer()

FromTables = Annotated[
    bool, typer.Option("--from-tables", help="Use the existing tables, figures and verdicts, as the workflow does.")
]


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
