"""Benchmarks: side by side in one process, in alternation, medians with intervals. Nothing here imports torch."""

from importlib import import_module
from pathlib import Path
from typing import Any

from rdp.errors import UserError, choices
from rdp.utils import paths, sealed

SUITE = {  # by name, the module that measures it
    "engine": "engine",
    "timm": "timm_loop",
    "loader": "loader",
    "rdp": "pairs",
    "pnnh": "pnnh",
    "seeds": "seeds",
    "start": "start",
    "workflow": "workflow",
}
SMOKE: dict[str, Any] = {"batch_size": 2, "rounds": 2}  # whether all of it works: its figures mean nothing

COMMANDS = {  # whose seconds the benchmark of the workflow holds, by the names of its figures
    "plan": "rdp plan",
    "dry_run": "snakemake -n, nothing done",
    "collect": "rdp collect",
    "collect_again": "again, nothing new",
    "nothing": "snakemake, all done",
}


def benchmark(name: str) -> Any:
    """The module of a benchmark, with ``run``: from a `Setting` to a `Benchmark`."""
    if name not in SUITE:
        raise UserError(f"bench: no benchmark '{name}'; {choices(name, SUITE)}")
    return import_module(f"{__name__}.{SUITE[name]}")


def measured(results: Path) -> list[Path]:
    """The files of what was measured: here, and on the machines of which results are recorded in the project."""
    own, recorded = results / "bench", paths.ROOT / "results" / "recorded" / "bench"
    return [path for folder in (own, *sorted(recorded.glob("*"))) for path in _of_suite(folder)]


def read(path: Path) -> dict[str, Any]:
    """What a benchmark found, as `rdp.bench.measuring.Benchmark.save` left it."""
    return sealed.read_json(path, "bench", f"run: rdp bench {path.stem}")


def _of_suite(folder: Path) -> list[Path]:
    return [path for name in SUITE if (path := folder / f"{name}.json").is_file()]
