"""A reproducible benchmark suite and paper pipeline for two papers on residual learning.

ResidualDroppath (arXiv 2411.09475) and the Plain Neural Net Hypothesis (arXiv 2402.08645).

For a training loop of your own:

    ResidualDropPath, Schedule, make_method, register_block     train a model by a method
    set_path, fuse, create_model, list_models                   plain and PNNH networks
    save_weights, load_model, start_from                        weights
    probe, list_probes                                          measurements
    UserError                                                   what bad input raises
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdp.errors import UserError
    from rdp.models.branch_ends import register_block
    from rdp.models.convert import set_path
    from rdp.models.create import create_model, list_models
    from rdp.models.fusion import fuse
    from rdp.models.residual_drop_path import ResidualDropPath, make_method
    from rdp.models.schedule import Schedule
    from rdp.models.weights import save_weights, start_from
    from rdp.probes.apply import list_probes, probe
    from rdp.store.export import load_model

__all__ = [
    "ResidualDropPath",
    "Schedule",
    "UserError",
    "create_model",
    "fuse",
    "list_models",
    "list_probes",
    "load_model",
    "make_method",
    "probe",
    "register_block",
    "save_weights",
    "set_path",
    "start_from",
]

_HOMES = {
    "ResidualDropPath": "models.residual_drop_path",
    "Schedule": "models.schedule",
    "UserError": "errors",
    "create_model": "models.create",
    "fuse": "models.fusion",
    "list_models": "models.create",
    "list_probes": "probes.apply",
    "load_model": "store.export",
    "make_method": "models.residual_drop_path",
    "probe": "probes.apply",
    "register_block": "models.branch_ends",
    "save_weights": "models.weights",
    "set_path": "models.convert",
    "start_from": "models.weights",
}


def __getattr__(name: str) -> Any:
    """What a training loop uses, imported when asked for: the command and the Snakefile must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rdp' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"rdp.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
