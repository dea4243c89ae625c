"""The probes of `rdp.probes` on a model of your own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rdp import probes
from rdp.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

_FEWEST = 4  # examples that the unbiased estimate of similarity needs


def list_probes() -> list[str]:
    """The names that `probe` takes.

    >>> import rdp
    >>> rdp.list_probes()
    ['activation_maps', 'coders', 'dissipating_inputs', 'feature_reuse', 'surviving_neurons']
    """
    return list(probes.available())


def probe(
    name: str,
    model: "nn.Module",
    x: "torch.Tensor",
    y: "torch.Tensor | None" = None,
    *,
    other: "nn.Module | None" = None,
    layers: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Measure a model: what is left of its input, which neurons survive, whether its branches repeat each other.

    ======================  ==========================================================================================
    ``dissipating_inputs``  R^2 of the input's linear reconstruction, CKA to it, correlation of different inputs and
                            rank, by layer (arXiv 2402.08645)
    ``surviving_neurons``   share of pre-activations above 0, and of channels never above it, by rectifier (the same)
    ``feature_reuse``       CKA of every two residual branches, their size beside the stream, accuracy without them
                            (arXiv 2411.09475)
    ``coders``              how far PNNH coders are from the identity, and from orthonormal rows
    ``activation_maps``     what each neuron of a network of the plane computes there
    ======================  ==========================================================================================

    The file of each in ``rdp/probes/`` defines its quantities. Shares, accuracies, CKA and R^2 are not in percent. The
    model is copied, and left as it is, on its device. In the copy, dropout and droppath are off, and batch
    normalisation uses the statistics of ``x``, so that an untrained model can be measured too.

    Args:
        name: one of `list_probes`.
        model: any that can be copied and called as ``model(x)``. Layers and branches are found in networks of this
            project, in those that `set_path` made, and where `ResidualDropPath` finds units.
        x: examples as the model reads them, normalised, on its device, shape (n, …), n >= 4. The probes of a study
            read 256, dissipating_inputs 1,024: its regression fits half of them, and needs more than its 128 features.
        y: their labels, shape (n,), for feature_reuse's accuracies; without them these are left out.
        other: the same architecture trained from another seed, with which feature_reuse compares the model.
        layers: in place of what is found, names of modules as ``model.named_modules()`` has them, whose outputs are
            layers (dissipating_inputs, activation_maps) or branches (feature_reuse), or whose inputs are
            pre-activations (surviving_neurons). With them, any model can be measured.

    Returns:
        A row a number or layer, as mappings of the same keys: ``pandas.DataFrame(rows)`` is a table of them.

    Raises:
        UserError: an unknown probe or layer, too few examples, or a model in which there is nothing to measure.

    >>> import rdp, timm, torch
    >>> model = timm.create_model("test_vit", img_size=32, num_classes=10)
    >>> rows = rdp.probe("surviving_neurons", model, torch.randn(8, 3, 32, 32))
    >>> rows[0]["name"], 0 < rows[0]["positive"] < 1
    ('blocks.0.mlp.act', True)
    """
    from rdp.models.unwrap import unwrapped

    module = probes.probe(name)
    if len(x) < _FEWEST:
        raise UserError(f"probe {name}: {_FEWEST} examples or more are needed, found {len(x)}")
    if y is not None and y.shape != x.shape[:1]:
        raise UserError(f"probe {name}: {len(x)} labels of shape ({len(x)},) are needed, found {tuple(y.shape)}")
    inner = unwrapped(model)
    known = dict(inner.named_modules())
    for layer in layers or ():
        if layer not in known:
            raise UserError(f"probe {name}: {type(inner).__name__} has no module '{layer}', see model.named_modules()")
    subject = probes.Subject(
        inner,
        x,
        x.new_zeros(len(x)) if y is None else y,
        None if other is None else unwrapped(other),
        trained=y is not None,
        layers=None if layers is None else tuple(layers),
    )
    rows: list[dict[str, Any]] = module.measure(subject)
    if not rows:
        measures = getattr(module, "MEASURES", "something else")
        raise UserError(f"probe {name}: nothing to measure was found in {type(inner).__name__}; it measures {measures}")
    return rows
