"""Benchmarks: alternatives timed in turn in one process, as medians with intervals. This module imports no torch."""

from importlib import import_module
from typing import Any

from rdp.errors import UserError, choices

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
