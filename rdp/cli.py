"""The ``rdp`` command: each step of the workflow, for a person or a rule to run."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer
from rich.table import Table

from rdp import bench, cli_data, leases, places, recorded, study
from rdp.errors import Terminated, UserError, choices
from rdp.spec import RunSpec
from rdp.terminal import console, show, tell

app = typer.Typer(
    help="Benchmark suite and paper pipeline for ResidualDroppath and the Plain Neural Net Hypothesis.\n\n"
    "A study (config/studies/NAME.yaml) asks for runs; plan shows them, train makes records of them, "
    "report turns records into figures and a page. Snakemake does all of it: snakemake --cores all",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_data.app, name="data")

_UsageError = typer.BadParameter.__base__  # which typer keeps to itself, with the click in it

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="a study's name, or a path to its file")]
CheckpointSeconds = Annotated[
    float, typer.Option(min=0, max=1e6, envvar="RDP_CHECKPOINT_SECONDS", help="time between two checkpoints")
]
Gpus = Annotated[
    int, typer.Option(min=0, help="of this machine's GPUs, hold so many for this job alone; 0: take what is there")
]
Cores = Annotated[
    int, typer.Option(min=1, max=1024, help="train runs side by side on so many, each with its own thread count")
]
FromTables = Annotated[
    bool, typer.Option("--from-tables", help="use tables, figures and verdicts as they are, as the workflow does")
]


@app.command()
def plan(name: StudyArgument) -> None:
    """Show a study's cells and runs, and what is done. Nothing is started."""
    from rdp.overview import plan_tables

    show(*plan_tables(study.load(name), places.results()))


@app.command()
def status(
    name: StudyArgument,
    watch: Annotated[bool, typer.Option("--watch", help="show it anew until all is done, or Ctrl-C")] = False,
    every: Annotated[float, typer.Option(min=0.5, max=86400, help="seconds between two looks")] = 2,
) -> None:
    """Show where a study stands: what runs where and how far it is, what failed and the last lines of its log."""
    from rdp import status as standing

    planned = study.load(name)
    if watch:
        with suppress(KeyboardInterrupt):
            standing.watch(planned, places.results(), console(), every)
    else:
        show(*standing.tables(standing.look(planned, places.results())))


@app.command()
def train(
    name: StudyArgument,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="runs or cells as `rdp plan` names them (architecture/dataset/method, …/seed-0003), or paths "
            "of receipts; by default the whole study",
        ),
    ] = None,
    checkpoint_seconds: CheckpointSeconds = 60,
    cores: Cores = 1,
    gpus: Gpus = 0,
) -> None:
    """Train runs of a study, each unless its record is there already."""
    planned = study.load(name)
    specs = select(planned, runs or [])
    recorded.refuse(places.results())
    from rdp.claims import ledger  # after what was asked for is known to be good: numpy and all that take seconds
    from rdp.side_by_side import run_job

    ledger.note(places.results())
    options = {"checkpoint_seconds": checkpoint_seconds, "cores": cores}
    with leases.gpus(gpus, tell):
        records = run_job(specs, places.results(), planned.device, **options)
    failed = sum(record.status == "failed" for record in records)
    if failed:
        print(f"{failed} of {len(records)} runs failed; rdp status {name} says why", file=sys.stderr)


@app.command()
def tune(
    name: StudyArgument,
    cells: Annotated[
        list[str] | None, typer.Argument(metavar="[CELL]...", help="cells as `rdp plan` names them; by default all")
    ] = None,
    checkpoint_seconds: CheckpointSeconds = 60,
    cores: Cores = 1,
    gpus: Gpus = 0,
) -> None:
    """Train the sweeps that choose learning rates, and say what each chose."""
    planned, results = study.load(name), places.results()
    chosen = {spec.cell: spec for spec in select(planned, cells or []) if spec.tuning}
    if not chosen:
        raise UserError(f"{planned.file}: no learning rate to choose: the study has no 'tune', or not for these cells")
    recorded.refuse(results)
    from rdp import tuning
    from rdp.claims import ledger
    from rdp.side_by_side import run_job

    ledger.note(results)
    options = {"checkpoint_seconds": checkpoint_seconds, "cores": cores}
    for spec in chosen.values():
        with leases.gpus(gpus, tell):
            records = run_job(spec.candidates(), results, planned.device, **options)
        tuning.write(spec, records, results)
        chosen_rate = tuning.choose(spec, records)
        warning = ", at which, as at every other, runs of the sweep diverged" if chosen_rate.diverged else ""
        print(f"{spec.cell}: learning rate {chosen_rate.learning_rate}{warning}")


@app.command()
def retry(name: StudyArgument) -> None:
    """Forget a study's failed runs, so that the next snakemake trains them again."""
    from rdp.states import states
    from rdp.store import Store

    planned = study.load(name)
    recorded.refuse(places.results())
    store = Store(places.results())
    failed = [
        spec for spec, state in states(planned, places.results(), verify=True) if state.status in {"failed", "damaged"}
    ]
    for spec in failed:
        store.forget(spec.run)
    print(f"{len(failed)} run{'' if len(failed) == 1 else 's'} forgotten")


@app.command()
def collect(name: StudyArgument) -> None:
    """Gather a study's records into records.parquet and history.parquet."""
    from rdp import records

    table = records.write(study.load(name), places.results())
    counts = ", ".join(f"{count} {status}" for status, count in table["status"].value_counts().items())
    print(f"{len(table)} runs: {counts}")


@app.command()
def claims(name: StudyArgument, from_tables: FromTables = False) -> None:
    """Decide the claims of config/claims.yaml by a study's records: claims.json, and the verdicts."""
    planned, results = study.load(name), places.results()
    from rdp import records, tables
    from rdp.claims import told

    if not from_tables:
        records.write(planned, results)
    content = told.write(tables.load(planned, results))
    shown = Table("claim", "says", "of", *told.KINDS, title=f"{name}: verdicts", title_justify="left")
    for row in told.rows(content):
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
    recorded.refuse(places.results())
    from rdp import measure

    measure.write(planned, probe_name, places.results(), cores)


@app.command()
def speed(name: StudyArgument, gpus: Gpus = 0) -> None:
    """Measure the training throughput of a study's methods side by side: speed.parquet."""
    planned = study.load(name)
    recorded.refuse(places.results())
    with leases.gpus(gpus, tell):
        from rdp.bench import study as measurements  # after the study is known to be good: torch takes seconds

        print(measurements.write(planned, places.results()))


@app.command()
def plot(
    name: StudyArgument, names: Annotated[list[str], typer.Argument(metavar="FIGURE...", help="figures' names")]
) -> None:
    """Draw figures of a study, each with its data and its caption: figures/FIGURE.{svg,pdf,png,csv,rst}."""
    planned = study.load(name)
    from rdp import tables
    from rdp.report import figures  # after the study is known to be good: drawing libraries take seconds

    loaded = tables.load(planned, places.results())
    for figure in names:
        figures.write(loaded, figure, places.results())


@app.command()
def report(name: StudyArgument, from_tables: FromTables = False) -> None:
    """Write a study's report from the records there are, naming what is missing: report/index.html and paper.pdf."""
    planned, results = study.load(name), places.results()
    # Drawing libraries take seconds, and write to the user's cache: not before the study is known to be good.
    from rdp import measure, records, tables
    from rdp.claims import told
    from rdp.report import contents, figures, page, paper

    if not from_tables:
        records.write(planned, results)
        measurable = not recorded.holds(results)  # else what was measured came with the records
        for measured in planned.study.probes if measurable else ():
            measure.write(planned, measured, results)
        if planned.study.speed_rounds and measurable:
            from rdp.bench import study as measurements

            measurements.write(planned, results)
        loaded = tables.load(planned, results)
        for figure in contents.figures(planned):
            figures.write(loaded, figure, results)
        told.write(loaded)
    print(page.write(planned, results))
    print(paper.write(planned, results))


@app.command()
def record(
    name: StudyArgument,
    to: Annotated[str | None, typer.Option(metavar="DIR", help="by default results/recorded/STUDY")] = None,
) -> None:
    """Pack a study's results into a bundle small enough to be committed, from which its report is made again."""
    planned = study.load(name)
    folder = places.named(to) if to else Path("results") / "recorded" / planned.name
    from rdp.recorded import bundle, packing

    made = packing.write(planned, places.results(), folder)
    print(f"{made.folder}: {len(made.files) + 1} files, {bundle.size(made) / 1000:,.1f} kB")


@app.command()
def unpack(
    name: StudyArgument,
    to: Annotated[
        str | None, typer.Option(metavar="DIR", help="a results directory; by default results/rebuilt/STUDY")
    ] = None,
) -> None:
    """Verify a study's recorded bundle, and unpack it into a results directory of its own."""
    from rdp.recorded import bundle, unpacking

    found = bundle.find(name)
    planned = bundle.plan(found, name)
    results = places.results(to or str(places.results() / "rebuilt" / planned.name))
    unpacking.write(found, planned, results)
    print(f"{results}: for its report, RDP_RESULTS={results} rdp report {planned.file}")


@app.command()
def schema(
    of_claims: Annotated[bool, typer.Option("--claims", help="of config/claims.yaml")] = False,
) -> None:
    """Print the JSON schema of study files, or of claims, for editors."""
    import json

    from rdp.claims import model

    print(json.dumps(model.json_schema() if of_claims else study.json_schema(), indent=1))


@app.command("bench")
def benchmarks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help=f"{', '.join(bench.SUITE)}; by default all")
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="try whether they work; the figures mean nothing")] = False,
    batch_size: Annotated[int, typer.Option(min=2, help="images in a mini-batch, 32 x 32 pixels each")] = 64,
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="of networks and their gradients")
    ] = "float32",
    rounds: Annotated[int, typer.Option(min=10, help="how often each is timed")] = 20,
    rate: Annotated[float, typer.Option(help="of droppath, at the deepest unit")] = 0.2,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Measure speed, side by side: results/bench/NAME.json, which reports show. README says what each one is."""
    chosen = {name: bench.benchmark(name) for name in names or bench.SUITE}
    from rdp.bench.measuring import Setting

    of = {"batch_size": batch_size, "rounds": rounds} | (bench.SMOKE if smoke else {})
    setting = Setting.of(device=device, threads=threads, rate=rate, precision=precision, smoke=smoke, **of)
    for name, module in chosen.items():
        try:
            found = module.run(setting)
        except UserError as error:
            if names:
                raise
            tell(f"rdp bench {name}: left out: {error}")
            continue
        show(found.table)
        if smoke:
            with TemporaryDirectory() as nowhere:
                found.save(name, setting, Path(nowhere))
        else:
            print(found.save(name, setting, places.results()))


def select(planned: study.Plan, names: list[str]) -> list[RunSpec]:
    """The runs that names on the command line mean; all of the study's where there are none."""
    by_name: dict[str, list[RunSpec]] = {}
    for cell in planned.cells:
        by_name[cell.title] = by_name[cell.id] = list(cell.specs)
        for spec in cell.specs:
            by_name[spec.run] = by_name[f"{cell.title}/seed-{spec.seed:04d}"] = [spec]
    if not names:
        return list(planned.specs)
    chosen = {}
    for name in names:
        # A receipt's path is the run's name in the store, with a folder before it and .json behind.
        short = "/".join(Path(name).with_suffix("").parts[-2:]) if name.endswith(".json") else name
        if short not in by_name:
            titles = [cell.title for cell in planned.cells]
            raise UserError(f"{planned.file}: no run or cell '{name}'; {choices(name, titles)}")
        chosen |= {spec.run: spec for spec in by_name[short]}
    return list(chosen.values())


def main() -> None:
    """Run the command; bad input is one line on standard error and status 2."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except _UsageError as error:
        said, path = error.format_message(), error.ctx.command_path if error.ctx else "rdp"
        # No command at all is told with all there are.
        line = said if "\n" in said else f"rdp: {UserError(said)} ({path} --help tells more)"
        print(line, file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        print(f"rdp: {error}", file=sys.stderr)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:  # `rdp plan … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Terminated:
        sys.exit(143)


if __name__ == "__main__":
    main()
