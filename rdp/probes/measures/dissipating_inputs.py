"""Dissipating inputs (arXiv 2402.08645): the information about the input after each layer of a network."""

from typing import Any

import torch

from rdp.errors import UserError
from rdp.probes import Subject
from rdp.probes.cka import minibatch_cka
from rdp.probes.layers import data_and_noise, visit_layers
from rdp.utils import rng

EXAMPLES = 1024  # half of them fit a regression, and must outnumber its features
MEASURES = "residual, plain and PNNH layers, or the outputs of the modules that layers=[...] names"
COLUMNS = ("layer", "source", "quantity", "value")
FEATURES = 128  # maximum of a regression
PENALTIES = tuple(10.0**power for power in range(-4, 5))  # relative to the mean eigenvalue of the covariance
_CONSTANT = 1e-6  # a feature whose deviation over its mean is below this is constant up to float32 rounding


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """How much of the input remains after each layer, for the examples and for noise of equal moments.

    Normalisation uses the statistics of the network's input, as in training, because an untrained network has no
    running statistics.

    Returns:
        One row per number; no rows for a network without layers. ``layer`` is 0 for the input, then a layer of
        `rdp.probes.layers`; ``source`` is ``data`` or ``noise``, see `data_and_noise`. The ``quantity`` with its
        ``value`` is one of these, for a layer's activations as one vector per example:

        ``reconstruction``  R^2 of the source's pixels or coordinates, predicted from `project`ed activations; see
                            `reconstruction`.
        ``cka``             linear CKA to the source, see `rdp.probes.cka`; nan for constant activations.
        ``correlation``     of two different examples, see `correlation`: 1 if all inputs look the same.
        ``rank``            number of directions, at least 1; see `participation_ratio`.

    Raises:
        UserError: examples that are no real numbers, such as tokens: a regression to indices says nothing.
        ValueError: fewer than 4 examples.
    """
    if not subject.x.is_floating_point():
        raise UserError(
            f"probe dissipating_inputs: needs an input of real numbers, got one of {subject.x.dtype}; of a network "
            "that reads tokens, measure the part after the embedding"
        )
    return [
        {"layer": layer, "source": source, "quantity": quantity, "value": value}
        for source, x in data_and_noise(subject.x).items()
        for layer, quantities in enumerate(_by_layer(subject, x))
        for quantity, value in quantities.items()
    ]


def _by_layer(subject: Subject, x: torch.Tensor) -> list[dict[str, float]]:
    """The quantities of the input and of each layer; empty for a network without layers."""
    pixels = x.flatten(1).double()
    quantities: list[dict[str, float]] = []

    def measure_layer(output: torch.Tensor) -> None:
        z = output.flatten(1).float()  # large; sums over many of its values are in float64
        quantities.append(
            {
                "reconstruction": reconstruction(project(z, len(quantities)).double(), pixels),
                "cka": float(minibatch_cka([z], [pixels])[0, 0]),
                "correlation": correlation(z.double()),
                "rank": participation_ratio(z),
            }
        )

    measure_layer(x)
    visit_layers(subject.network, x, measure_layer, training=True, layers=subject.layers)
    return quantities if len(quantities) > 1 else []


def project(z: torch.Tensor, layer: int) -> torch.Tensor:
    """Standardise activations (n, features), and project them at random to `FEATURES` if there are more.

    The projection is Gaussian and depends only on the layer's number and width, so it is the same for all networks.
    Statistics of the fitted half only would not do: a neuron that is hardly active there would outweigh all others if
    it were active in one held-out example.
    """
    mean, deviation = z.mean(0), z.std(0, correction=0)
    deviation[deviation <= _CONSTANT * mean.abs()] = torch.inf  # no information
    z = (z - mean) / deviation
    if z.shape[1] <= FEATURES:
        return z
    projection = rng.generator(0, f"probe/projection/{layer}").standard_normal((z.shape[1], FEATURES))
    return z @ torch.from_numpy(projection).to(z)


def reconstruction(features: torch.Tensor, targets: torch.Tensor) -> float:
    """Held-out R^2 of a ridge regression from features (n, k) to targets (n, d), both float64.

    The first half of the examples fits it, the next quarter selects one of `PENALTIES`, and the last quarter gives
    1 - SSE / SST, both summed over the targets, SST about the mean of the first half. A constant target adds to
    neither sum. The result is not clipped: it is negative if the prediction is worse than the mean.
    """
    n = len(features)
    (z, z_validation, z_test), (y, y_validation, y_test) = (
        (part - part[: n // 2].mean(0)).tensor_split([n // 2, 3 * n // 4]) for part in (features, targets)
    )
    eigenvalues, vectors = torch.linalg.eigh(z.T @ z)
    unit = eigenvalues.mean().item() or 1.0  # constant features predict the mean
    moments = vectors.T @ (z.T @ y)

    def error(z: torch.Tensor, y: torch.Tensor, penalty: float) -> float:
        weights = vectors @ (moments / (eigenvalues.clamp(min=0) + penalty * unit)[:, None])
        return float((y - z @ weights).square().sum())

    penalty = min(PENALTIES, key=lambda penalty: error(z_validation, y_validation, penalty))
    total = y_test.square().sum().item()
    return 1 - error(z_test, y_test, penalty) / total if total else float("nan")


def correlation(z: torch.Tensor) -> float:
    """The mean Pearson correlation over features of examples 1 and 2, 3 and 4, …; z has shape (n, features), float64.

    Pairs with an example whose features are all equal are left out; nan if no pair remains.
    """
    z = z - z.mean(1, keepdim=True)
    one, other = z[: len(z) // 2 * 2].view(-1, 2, z.shape[1]).unbind(1)
    return float(((one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))).nanmean())


def participation_ratio(z: torch.Tensor) -> float:
    """(sum l)^2 / sum l^2 over the eigenvalues l of the covariance of z, shape (n, features).

    It is r if the variance is equal in r directions and 0 in the others, and at most min(n - 1, features). It is nan
    for constant activations.
    """
    z = z - z[0]  # exactly 0 for a constant, unlike the difference from the mean
    z = z - z.mean(0)
    z = (z / z.norm()).float()  # float32 suffices: small eigenvalues have little weight
    gram = z.T @ z if z.shape[0] > z.shape[1] else z @ z.T  # both have these eigenvalues, which now sum to 1
    return 1 / gram.square().sum().item()
