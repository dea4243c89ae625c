"""``rdp collect``, ``claims``, ``probe``, ``speed``, ``plot`` and ``report``: from records to figures and verdicts."""

from typing import Annotated

import typer
from rich.table import Table

from rdp import study
from rdp.cli.arguments import Gpus, StudyArgument
from rdp.jobs.gpus import lease
from rdp.store import origin
from rdp.utils import paths
from rdp.utils.console import show, tell
from rdp.utils.humanize import count

app = typer.Typer()

FromTables = Annotated[
    bool, typer.Option("--from-tables", help="use tables, figures and verdicts as they are, as the workflow does")
]


@app.command()
def collect(name: StudyArgument) -> None:
    """Gather a study's records into records.parquet and history.parquet."""
    from rdp.tables import collect

    table = collect.write(study.load(name), paths.results())
    counts = ", ".join(f"{n} {status}" for status, n in table["status"].value_counts().items())
    print(f"{count(len(table), 'run')}: {counts}")


@app.command()
def claims(name: StudyArgument, from_tables: FromTables = False) -> None:
    """Decide the claims of config/claims.yaml by a study's records: claims.json, and the verdicts."""
    planned, results = study.load(name), paths.results()
    from rdp import tables
    from rdp.claims import verdict_json
    from rdp.claims.model import KINDS
    from rdp.tables import collect

    if not from_tables:
        collect.write(planned, results)
    content = verdict_json.write(tables.load(planned, results))
    shown = Table("claim", "says", "of", *KINDS, title=f"{planned.name}: verdicts", title_justify="left")
    for row in verdict_json.summary_rows(content):
        shown.add_row(*row)
    show(shown)


@app.command()
def probe(
    name: StudyArgument,
    probe_name: Annotated[str, typer.Argument(metavar="PROBE", help="a probe's name")],
    cores: Annotated[int, typer.Option(min=1, help="to measure cells side by side on")] = 1,
) -> None:
    """Measure a study's networks, at initialisation and trained: probes/PROBE.parquet."""
    planned = study.load(name)
    origin.refuse(paths.results())
    from rdp.tables import measurements

    print(measurements.write(planned, probe_name, paths.results(), cores))


@app.command()
def speed(name: StudyArgument, gpus: Gpus = 0) -> None:
    """Measure the training throughput of a study's methods side by side: speed.parquet."""
    planned = study.load(name)
    origin.refuse(paths.results())
    with lease(gpus, tell):
        from rdp.bench import study as measurements  # after the study is known to be good: torch takes seconds

        print(measurements.write(planned, paths.results()))


@app.command()
def plot(
    name: StudyArgument, names: Annotated[list[str], typer.Argument(metavar="FIGURE...", help="figures' names")]
) -> None:
    """Draw figures of a study, each with its data and its caption: figures/FIGURE.{svg,pdf,png,csv,rst}."""
    planned = study.load(name)
    from rdp import tables
    from rdp.report import figures  # after the study is known to be good: drawing libraries take seconds

    loaded = tables.load(planned, paths.results())
    for figure in names:
        figures.write(loaded, figure, paths.results())


@app.command()
def report(name: StudyArgument, from_tables: FromTables = False) -> None:
    """Write a study's report from the records there are, naming what is missing.

    report/index.html, paper.pdf and checklist.html.
    """
    planned, results = study.load(name), paths.results()
    # These take seconds, and drawing libraries write to the user's cache: not before the study is known to be good.
    from rdp import tables
    from rdp.claims import verdict_json
    from rdp.provenance import checklist
    from rdp.report import contents, page, paper
    from rdp.tables import collect, measurements

    if not from_tables:
        from rdp.report import figures

        collect.write(planned, results)
        measurable = not origin.holds(results)  # else what was measured came with the records
        for measured in planned.study.probes if measurable else ():
            measurements.write(planned, measured, results)
        if planned.study.speed_rounds and measurable:
            from rdp.bench import study as measurements

            measurements.write(planned, results)
        loaded = tables.load(planned, results)
        for figure in contents.figures(planned):
            figures.write(loaded, figure, results)
        verdict_json.write(loaded)
    print(page.write(planned, results))
    print(paper.write(planned, results))
    print(checklist.write(planned, results))
