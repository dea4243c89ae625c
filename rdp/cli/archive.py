"""``rdp pack`` and ``unpack``: archives of a study's results."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from rdp import study
from rdp.cli.arguments import StudyArgument
from rdp.utils import paths
from rdp.utils.humanize import count, size

log = logging.getLogger(__name__)
app = typer.Typer()


@app.command()
def pack(
    name: StudyArgument,
    to: Annotated[str | None, typer.Option(metavar="FILE", help="By default results/recorded/STUDY.tar.")] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Include weights.")] = False,
) -> None:
    """Pack a study's finished runs and tables into one archive file."""
    planned = study.load(name)
    path = paths.parse(to) if to else Path("results") / "recorded" / f"{planned.name}.tar"
    from rdp.archive.pack import pack

    archive = pack(planned, paths.results(), path, weights=weights)
    runs = archive.manifest.runs
    missing = f", {runs['missing']} missing" if runs["missing"] else ""
    print(f"{path}: {count(sum(runs.values()) - runs['missing'], 'run')}{missing}, {size(path.stat().st_size)}")


@app.command()
def unpack(
    name: Annotated[str, typer.Argument(metavar="ARCHIVE", help="An archive file, or the name of a recorded study.")],
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Rebuild recorded results apart from your own: results/rebuilt/STUDY.")
    ] = False,
    to: Annotated[str | None, typer.Option(metavar="DIR", help="Another results directory.")] = None,
) -> None:
    """Verify an archive and add its runs to the store.

    With --recorded, rebuild recorded results apart from the store.
    """
    from rdp.archive import recorded as recorded_studies

    archive = recorded_studies.find(name)
    from rdp.archive import unpack

    if recorded:
        results = paths.results(to or str(paths.results() / "rebuilt" / archive.manifest.study))
        planned = recorded_studies.plan(archive, results, name)
        unpack.as_recorded(archive, planned, results)
        print(f"{results}: for its report, RDP_RESULTS={results} rdp report {planned.file}")
        return
    outcome = unpack.into_store(archive, paths.results(to))
    for line in outcome.rejected:
        log.error("rdp: %s", line)
    missing = archive.manifest.runs.get("missing", 0)
    print(
        f"{count(len(outcome.added), 'run')} added, {len(outcome.present)} already present, "
        f"{len(outcome.rejected)} rejected, {missing} missing from the archive"
    )
    if missing:
        file = outcome.study or archive.manifest.study
        print(f"to train the missing runs: snakemake --cores all --config study={file}")
    if outcome.rejected:
        raise typer.Exit(1)
