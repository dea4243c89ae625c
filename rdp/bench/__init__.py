"""Benchmarks: alternatives timed in turn in one process, as medians with intervals. This module imports no torch."""

from importlib import import_module
from pathlib import Path
from typing import Any

from rdp.errors import UserError, choices
from rdp.utils import paths, sealed

SUITE = ("engine", "limit", "timm", "loader", "rdp", "pnnh", "seeds", "start", "workflow")
SMOKE: dict[str, Any] = {"batch_size": 2, "rounds": 2}  # enough to see that a benchmark runs


def benchmark(name: str) -> Any:
    """Return the module of a benchmark, which defines ``run(setting: Setting) -> Benchmark``.

    Raises:
        UserError: no benchmark has this name.
    """
    if name not in SUITE:
        raise UserError(f"bench: no benchmark '{name}'; {choices(name, SUITE)}")
    return import_module(f"{__name__}.{name}")


def recorded() -> list[Path]:
    """Return the files of benchmarks that are recorded in the project, by machine."""
    folders = sorted((paths.ROOT / "results" / "recorded" / "bench").glob("*"))
    return [path for folder in folders for name in SUITE if (path := folder / f"{name}.json").is_file()]


def read(path: Path) -> dict[str, Any]:
    """Return the content of a file that `rdp.bench.measuring.Benchmark.save` wrote."""
    return sealed.read_json(path, "bench", f"run: rdp bench {path.stem}")
