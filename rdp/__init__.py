"""A reproducible benchmark suite and paper pipeline for two papers on residual learning.

ResidualDroppath (arXiv 2411.09475) and the Plain Neural Net Hypothesis (arXiv 2402.08645).

For your own training loop:

    ResidualDropPath, Schedule, make_method                     train a model with a method
    find_units, register_block                                  which residual branches it drops
    set_path, fuse, create_model, list_models                   plain and PNNH networks
    param_groups                                                parameter groups of an optimizer
    save_weights, load_model, start_from                        weights
    probe, list_probes                                          measurements
    UserError                                                   raised for invalid input
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdp.errors import UserError as UserError
    from rdp.models import create_model as create_model
    from rdp.models import list_models as list_models
    from rdp.models.branch_ends import register_block as register_block
    from rdp.models.convert import set_path as set_path
    from rdp.models.find_units import find_units as find_units
    from rdp.models.fusion import fuse as fuse
    from rdp.models.residual_drop_path import ResidualDropPath as ResidualDropPath
    from rdp.models.residual_drop_path import make_method as make_method
    from rdp.models.schedule import Schedule as Schedule
    from rdp.models.weights import save_weights as save_weights
    from rdp.models.weights import start_from as start_from
    from rdp.probes import list_probes as list_probes
    from rdp.probes import probe as probe
    from rdp.store.export import load_model as load_model
    from rdp.training.param_groups import param_groups as param_groups

_MODULES = {
    "ResidualDropPath": "models.residual_drop_path",
    "Schedule": "models.schedule",
    "UserError": "errors",
    "create_model": "models",
    "find_units": "models.find_units",
    "fuse": "models.fusion",
    "list_models": "models",
    "list_probes": "probes",
    "load_model": "store.export",
    "make_method": "models.residual_drop_path",
    "param_groups": "training.param_groups",
    "probe": "probes",
    "register_block": "models.branch_ends",
    "save_weights": "models.weights",
    "set_path": "models.convert",
    "start_from": "models.weights",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the command line and the Snakefile must not wait for torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'rdp' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"rdp.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# It checks, by the names above, that no other package named rdp is mixed with this one.
from rdp import errors as _errors  # noqa: E402, F401
