"""Probes: measurements on a network, trained or at initialisation.

A probe is one file in `rdp.probes.measures` or in ``extensions/probes/`` (see `rdp.utils.extensions`). It defines

- ``measure(subject)``: the rows of its table, a list of mappings,
- ``COLUMNS``: the keys of a row,
- ``MEASURES``: what it looks for in a network, for the message of `rdp.probe` if there is none,
- ``SEEDS`` (optional): the number of seeds per cell that it measures at most,
- ``EXAMPLES`` (optional): the number of examples that it reads, if not the usual number.

`rdp.tables.measurements` applies probes to stored weights, so a new probe retrains nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rdp.errors import UserError, choices
from rdp.probes import measures
from rdp.utils import extensions

if TYPE_CHECKING:
    import torch
    from torch import nn

_MIN_EXAMPLES = 4  # for the unbiased estimator of CKA


@dataclass(frozen=True)
class Subject:
    """What a probe measures. A probe leaves the networks unchanged, and modifies copies only.

    Attributes:
        network: of one run, trained or at initialisation.
        x: normalised examples of the test split, shape (n, …).
        y: their labels, shape (n,).
        other: the network of another seed of the same cell at the same stage, trained independently; None if the
            cell has one run.
        trained: whether the network is trained.
        layers: names of the modules to measure, instead of those that the probe finds.
    """

    network: "nn.Module"
    x: "torch.Tensor"
    y: "torch.Tensor"
    other: "nn.Module | None" = None
    trained: bool = True
    layers: tuple[str, ...] | None = None


@cache
def available() -> tuple[str, ...]:
    """The names of all probes, sorted, without importing any."""
    return tuple(sorted(extensions.modules(measures)))


def probe_module(name: str) -> ModuleType:
    """The module of the probe called ``name``; raises `UserError` if there is none."""
    if name not in available():
        raise UserError(f"unknown probe '{name}'; {choices(name, available())}")
    return extensions.load(f"{__name__}.measures.{name}", "measure", "COLUMNS")


def seed_limit(probe: ModuleType, limit: int | None) -> int | None:
    """The number of seeds per cell to measure: the study's limit or the probe's, whichever is less; None for all."""
    return min((number for number in (limit, getattr(probe, "SEEDS", None)) if number is not None), default=None)


def list_probes() -> list[str]:
    """The names that `probe` accepts, sorted.

    >>> import rdp
    >>> rdp.list_probes()
    ['activation_maps', 'coders', 'dissipating_inputs', 'feature_reuse', 'surviving_neurons']
    """
    return list(available())


def probe(
    name: str,
    model: "nn.Module",
    x: "torch.Tensor",
    y: "torch.Tensor | None" = None,
    *,
    other: "nn.Module | None" = None,
    layers: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Measure a model.

    ======================  ==========================================================================================
    ``dissipating_inputs``  R^2 of the input's linear reconstruction, CKA to the input, correlation of different inputs
                            and rank, by layer (arXiv 2402.08645)
    ``surviving_neurons``   share of pre-activations above 0, and of channels never above 0, by rectifier (arXiv
                            2402.08645)
    ``feature_reuse``       CKA of every two residual branches, their norm relative to the stream, accuracy without them
                            (arXiv 2411.09475)
    ``coders``              distance of PNNH coders from the identity, and from orthonormal rows
    ``activation_maps``     the output of each neuron over the plane, for a network that reads points of the plane
    ======================  ==========================================================================================

    The module of each in `rdp.probes.measures` defines its quantities. Shares, accuracies, CKA and R^2 are fractions,
    not percent. A copy of the model is measured, on the model's device. In the copy, dropout and droppath are off, and
    batch normalisation uses the statistics of ``x``, so an untrained model can be measured too.

    Args:
        name: one of `list_probes`.
        model: any model that can be copied and called as ``model(x)``. Layers and branches are found in networks of
            this project, in those that `set_path` converted, and where `ResidualDropPath` finds units.
        x: normalised examples on the model's device, shape (n, …), n >= 4. The probes of a study read 256;
            dissipating_inputs reads 1,024, because its regression needs more than 256 for its 128 features.
        y: their labels, shape (n,), for the accuracies of feature_reuse; without them these are left out.
        other: the same architecture trained from another seed, for comparison in feature_reuse.
        layers: names from ``model.named_modules()``, to use instead of the modules that the probe finds. Their outputs
            are the layers (dissipating_inputs, activation_maps) or branches (feature_reuse); their inputs are the
            pre-activations (surviving_neurons). With them, any model can be measured.

    Returns:
        One row per number or layer, as mappings with the same keys: ``pandas.DataFrame(rows)`` is a table.

    Raises:
        UserError: an unknown probe or layer, too few examples, or a model with nothing to measure.

    >>> import rdp, timm, torch
    >>> model = timm.create_model("test_vit", img_size=32, num_classes=10)
    >>> rows = rdp.probe("surviving_neurons", model, torch.randn(8, 3, 32, 32))
    >>> rows[0]["name"], 0 < rows[0]["positive"] < 1
    ('blocks.0.mlp.act', True)
    """
    from rdp.models.weights import unwrap

    module = probe_module(name)
    if len(x) < _MIN_EXAMPLES:
        raise UserError(f"probe {name}: needs at least {_MIN_EXAMPLES} examples, got {len(x)}")
    if y is not None and y.shape != x.shape[:1]:
        raise UserError(f"probe {name}: expected labels of shape ({len(x)},), got {tuple(y.shape)}")
    inner = unwrap(model)
    names = dict(inner.named_modules())
    for layer in layers or ():
        if layer not in names:
            raise UserError(f"probe {name}: {type(inner).__name__} has no module '{layer}', see model.named_modules()")
    subject = Subject(
        inner,
        x,
        x.new_zeros(len(x)) if y is None else y,
        None if other is None else unwrap(other),
        trained=y is not None,
        layers=None if layers is None else tuple(layers),
    )
    rows: list[dict[str, Any]] = module.measure(subject)
    if not rows:
        target = getattr(module, "MEASURES", "something else")
        raise UserError(f"probe {name}: found nothing to measure in {type(inner).__name__}; it measures {target}")
    return rows
