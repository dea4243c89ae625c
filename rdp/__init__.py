"""A reproducible benchmark suite and paper pipeline for two papers on residual learning.

ResidualDroppath (arXiv 2411.09475) and the Plain Neural Net Hypothesis (arXiv 2402.08645).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdp.models.blocks import register_block
    from rdp.schedule import ResidualDropPath, Schedule

__all__ = ["ResidualDropPath", "Schedule", "register_block"]

_HOMES = {"ResidualDropPath": "rdp.schedule", "Schedule": "rdp.schedule", "register_block": "rdp.models.blocks"}


def __getattr__(name: str) -> Any:
    """What a training loop uses, imported when asked for: the command and the Snakefile must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rdp' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
