"""``rdp bench``, ``schema`` and ``snakefile``: commands that need no study."""

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from rdp import bench
from rdp.errors import UserError
from rdp.utils import paths
from rdp.utils.console import show

app = typer.Typer()
log = logging.getLogger(__name__)


@app.command("schema")
def print_schema(
    kind: Annotated[
        Literal["study", "claims", "record"], typer.Argument(metavar="KIND", help="study, claims or record.")
    ] = "study",
) -> None:
    """Print the JSON schema of study files, claims or records."""
    from rdp.claims import model
    from rdp.store import record
    from rdp.study import schema

    print(json.dumps({"study": schema, "claims": model, "record": record}[kind].json_schema(), indent=1))


@app.command()
def snakefile() -> None:
    """Print the path of the Snakefile.

    Pass it to snakemake --snakefile where rdp is installed without its checkout.
    """
    print(paths.snakefile())


@app.command("bench")
def benchmarks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help=f"{', '.join(bench.SUITE)}; by default all.")
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Only check that they run; the figures mean nothing.")] = False,
    batch_size: Annotated[int, typer.Option(metavar="N", min=2, help="Images of 32 x 32 pixels in a batch.")] = 64,
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Precision of networks and gradients.")
    ] = "float32",
    rounds: Annotated[int, typer.Option(metavar="N", min=10, help="Measurements of each alternative.")] = 20,
    rate: Annotated[float, typer.Option(help="Droppath rate of the deepest unit.")] = 0.2,
    threads: Annotated[int, typer.Option(metavar="N", min=1, max=1024, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure speed against baselines.

    Writes results/bench/NAME.json, which reports show. docs/benchmarks.md describes each benchmark.
    """
    modules = {name: bench.benchmark(name) for name in names or bench.SUITE}
    from rdp.bench.measuring import Setting

    size = {"batch_size": batch_size, "rounds": rounds} | (bench.SMOKE if smoke else {})
    setting = Setting.of(device=device, threads=threads, rate=rate, precision=precision, smoke=smoke, **size)
    for name, module in modules.items():
        try:
            result = module.run(setting)
        except UserError as error:
            if names:
                raise
            log.warning("rdp bench %s: left out: %s", name, error)
            continue
        show(result.table)
        if smoke:
            with TemporaryDirectory() as scratch:
                result.save(name, setting, Path(scratch))
        else:
            print(result.save(name, setting, paths.results()))
