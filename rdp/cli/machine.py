"""``rdp bench`` and ``schema``: what is asked of no study."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from rdp import bench
from rdp.errors import UserError
from rdp.study.schema import json_schema
from rdp.utils import paths
from rdp.utils.console import show, tell

app = typer.Typer()


@app.command()
def schema(
    of_claims: Annotated[bool, typer.Option("--claims", help="of config/claims.yaml")] = False,
) -> None:
    """Print the JSON schema of study files, or of claims, for editors."""
    import json

    from rdp.claims import model

    print(json.dumps(model.json_schema() if of_claims else json_schema(), indent=1))


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
            print(found.save(name, setting, paths.results()))
