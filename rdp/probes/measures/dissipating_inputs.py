"""Dissipating inputs (arXiv 2402.08645): how much of its input is left after each layer of a network.

Four readings, since none says it alone: what a linear map can recover of the input, how similar the layer's geometry
is to the input's, how alike different inputs have become, and over how many directions they still spread.
"""

from typing import Any

import torch

from rdp.probes import Subject
from rdp.probes.cka import minibatch_cka
from rdp.probes.layers import visit_layers
from rdp.probes.sources import sources
from rdp.utils import rng

EXAMPLES = 1024  # half of them must outnumber the features of a regression
MEASURES = "residual, plain and PNNH layers, or the outputs of the modules that layers=[...] names"
COLUMNS = ("layer", "source", "quantity", "value")
FEATURES = 128  # of a regression, at most
PENALTIES = tuple(10.0**power for power in range(-4, 5))  # over the mean eigenvalue of the features' covariance
_CONSTANT = 1e-6  # a feature's deviation, over its mean, that rounding in float32 explains


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """What is left of the input after each layer, for the examples and for noise of equal moments.

    Normalisation uses the statistics of what the network is fed with, as in training: an untrained network has no
    running ones.

    Returns:
        One mapping a number: ``layer``, 0 for the input itself, then see `rdp.probes.layers`; ``source``, ``data`` or
        ``noise``, see `rdp.probes.sources`; ``quantity`` and ``value``. None for a network without layers. The
        quantities, of a layer's activations as one vector an example:

        ``reconstruction``  R^2 of the source's pixels or coordinates, predicted from `projected` activations, see
                            `reconstruction`.
        ``cka``             linear CKA to the source, see `rdp.probes.cka`; nan where activations do not depend on it.
        ``correlation``     of two different examples, see `correlation`: 1 where all inputs look the same.
        ``rank``            see `participation_ratio`: the number of directions, from 1 up.

    Raises:
        ValueError: fewer than 4 examples.
    """
    return [
        {"layer": layer, "source": source, "quantity": quantity, "value": value}
        for source, x in sources(subject.x).items()
        for layer, quantities in enumerate(_by_layer(subject, x))
        for quantity, value in quantities.items()
    ]


def _by_layer(subject: Subject, x: torch.Tensor) -> list[dict[str, float]]:
    """The quantities of the input and of each layer; nothing for a network without layers."""
    pixels = x.flatten(1).double()
    found: list[dict[str, float]] = []

    def look(output: torch.Tensor) -> None:
        z = output.flatten(1).double()
        found.append(
            {
                "reconstruction": reconstruction(projected(z, len(found)), pixels),
                "cka": float(minibatch_cka([z], [pixels])[0, 0]),
                "correlation": correlation(z),
                "rank": participation_ratio(z),
            }
        )

    look(x)
    visit_layers(subject.network, x, look, training=True, layers=subject.layers)
    return found if len(found) > 1 else []


def projected(z: torch.Tensor, layer: int) -> torch.Tensor:
    """Activations standardised over all examples, and projected at random where they are more than `FEATURES`.

    The projection is Gaussian, and depends on the layer's number and width alone: it is the same for all networks.
    Standardised by the examples of the fit alone, a neuron that is hardly active among them would, active once in a
    held-out example, outweigh all others.

    Args:
        z: (n, features), float64.
        layer: its number.

    Returns:
        Shape (n, at most `FEATURES`).
    """
    mean, deviation = z.mean(0), z.std(0, correction=0)
    deviation[deviation <= _CONSTANT * mean.abs()] = torch.inf  # without information
    z = (z - mean) / deviation
    if z.shape[1] <= FEATURES:
        return z
    draw = rng.generator(0, f"probe/projection/{layer}").standard_normal((z.shape[1], FEATURES))
    return z @ torch.from_numpy(draw).to(z)


def reconstruction(features: torch.Tensor, targets: torch.Tensor) -> float:
    """R^2, held out, of a ridge regression from features (n, k) to targets (n, d), both float64.

    The first half of the examples fits it, the next quarter chooses among `PENALTIES`, and the last quarter gives
    1 - SSE / SST, both summed over the targets, SST about the mean of the fit. A target that never changes adds to
    neither sum. Nothing is clipped: it is below 0 where the fit predicts worse than its mean.
    """
    n = len(features)
    (z, chooser, held), (y, choice, truth) = (
        (part - part[: n // 2].mean(0)).tensor_split([n // 2, 3 * n // 4]) for part in (features, targets)
    )
    eigenvalues, vectors = torch.linalg.eigh(z.T @ z)
    unit = eigenvalues.mean().item() or 1.0  # features that never change predict the mean
    moments = vectors.T @ (z.T @ y)

    def error(z: torch.Tensor, y: torch.Tensor, penalty: float) -> float:
        weights = vectors @ (moments / (eigenvalues.clamp(min=0) + penalty * unit)[:, None])
        return float((y - z @ weights).square().sum())

    penalty = min(PENALTIES, key=lambda penalty: error(chooser, choice, penalty))
    total = truth.square().sum().item()
    return 1 - error(held, truth, penalty) / total if total else float("nan")


def correlation(z: torch.Tensor) -> float:
    """The mean Pearson correlation, over features, of examples 1 and 2, 3 and 4, …; z is (n, features), float64.

    Pairs with an example whose features are all equal have none; nan if no pair has one.
    """
    z = z - z.mean(1, keepdim=True)
    one, other = z[: len(z) // 2 * 2].view(-1, 2, z.shape[1]).unbind(1)
    return float(((one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))).nanmean())


def participation_ratio(z: torch.Tensor) -> float:
    """(sum l)^2 / sum l^2 of the eigenvalues l of the covariance of z, (n, features), float64.

    It is r where the variance is equal in r directions and 0 in the others, at most min(n - 1, features), and nan
    for activations that do not depend on the example.
    """
    z = z - z[0]  # exactly 0 for a constant, which subtracting a mean alone need not be
    z = z - z.mean(0)
    z = (z / z.norm()).float()  # small eigenvalues count for little, and this is the costliest product
    gram = z.T @ z if z.shape[0] > z.shape[1] else z @ z.T  # either has those eigenvalues, now of sum 1
    return 1 / gram.square().sum().item()
