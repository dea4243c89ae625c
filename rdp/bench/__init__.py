"""Benchmarks: side by side in one process, in alternation, medians with intervals. Nothing here imports torch."""

from importlib import import_module
from typing import Any

from rdp.errors import UserError, choices

SUITE = {  # by name, the module that measures it
    "engine": "engine",
    "timm": "timm_loop",
    "rdp": "pairs",
    "pnnh": "paths",
    "seeds": "seeds",
    "start": "start",
    "workflow": "workflow",
}
SMOKE: dict[str, Any] = {"batch_size": 2, "rounds": 2}  # whether all of it works: its figures mean nothing


def benchmark(name: str) -> Any:
    """The module of a benchmark, with ``run``: from a `Setting` to a `Benchmark`."""
    if name not in SUITE:
        raise UserError(f"bench: no benchmark '{name}'; {choices(name, SUITE)}")
    return import_module(f"{__name__}.{SUITE[name]}")
