"""Activation maps: the output of each neuron of a network over the plane (arXiv 2411.09475, Figure 1)."""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rdp.probes import Subject
from rdp.probes.layers import layer_outputs

SEEDS = 1  # maps are not averaged, and a network has a thousand rows
MEASURES = "the layers of networks that read points of the plane, shape (n, 2)"
COLUMNS = ("layer", "neuron", "low", "high", "map")
GRID = 24  # points along each axis
_DIGITS = 4  # significant digits of a value


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """The output of every hidden neuron on a grid, layer by layer, as the next layer reads it.

    The output of a layer is the sum after a residual branch, or the output of a plain block or PNNH layer.
    Normalisation uses the statistics of the subject's examples. An untrained network has no running statistics, and
    those of the grid would be of another distribution.

    Returns:
        One row per neuron; no rows for a network that does not read points of the plane.

        ``layer``, ``neuron``  numbers from 1.
        ``map``                `GRID` * `GRID` values to 4 significant digits, in rows of decreasing y, each in order
                               of increasing x.
        ``low``, ``high``      ends of both axes, in the units of the examples. The square contains all examples and is
                               divided into `GRID` * `GRID` cells; the values are those at the cells' centres.
    """
    if subject.x.dim() != 2 or subject.x.shape[1] != 2 or not subject.x.is_floating_point():
        return []
    network = with_statistics_of(subject.network, subject.x)
    high = math.ceil(subject.x.abs().max().item() * 10) / 10
    outputs = layer_outputs(network, grid(high).to(subject.x), layers=subject.layers)
    return [
        {"layer": layer, "neuron": neuron, "map": _rounded(values), "low": -high, "high": high}
        for layer, output in enumerate(outputs, start=1)
        for neuron, values in enumerate(output.T, start=1)
    ]


def grid(high: float) -> torch.Tensor:
    """The centres of the cells of the square from -high to high, from the top left, shape (`GRID` ** 2, 2)."""
    centres = high * (2 * torch.arange(GRID) + 1 - GRID) / GRID
    y, x = torch.meshgrid(centres.flip(0), centres, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


@torch.no_grad()
def with_statistics_of(network: nn.Module, x: torch.Tensor) -> nn.Module:
    """A copy in evaluation mode whose batch norms have the statistics of ``x``, shape (n, …), as running ones."""

    def fit(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        z = inputs[0].transpose(0, 1).flatten(1)
        norm.running_mean.copy_(z.mean(1))
        # The variance that training normalises by. The unbiased one, which training stores, is larger by n / (n - 1),
        # and this error would grow from layer to layer.
        norm.running_var.copy_(z.var(1, correction=0))

    network = deepcopy(network).eval()
    norms = [m for m in network.modules() if isinstance(m, _NormBase) and m.running_mean is not None]
    handles = [norm.register_forward_pre_hook(fit) for norm in norms]
    network(x)
    for handle in handles:
        handle.remove()
    return network


def _rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]
