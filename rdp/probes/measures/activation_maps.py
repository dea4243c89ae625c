"""Activation maps: what each neuron of a network computes over the plane (arXiv 2411.09475, Figure 1)."""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rdp.probes import Subject
from rdp.probes.layers import layer_outputs

SEEDS = 1  # maps are looked at, not averaged, and take a thousand rows a network
MEASURES = "the layers of networks that read points of the plane, shape (n, 2)"
COLUMNS = ("layer", "neuron", "low", "high", "map")
GRID = 24  # points along each axis
_DIGITS = 4  # significant ones of a value


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """The output of every hidden neuron on a grid, layer by layer as the next layer reads it.

    That is the sum after each residual branch, the output of each plain block, that of each PNNH layer.
    Normalisation uses the statistics of the subject's examples: an untrained network has no running ones, and
    those of the grid would be of another distribution.

    Returns:
        One mapping a neuron: ``layer`` and ``neuron``, numbers from 1; ``map``, `GRID` * `GRID` values to 4
        significant digits, row by row from the largest y to the smallest and in each from the smallest x to the
        largest; ``low`` and ``high``, the edges of the square in both axes, in units of the examples. It holds them
        all, and is cut into `GRID` * `GRID` cells, in the centres of which the values are.
        None for a network that does not read points of the plane.
    """
    if subject.x.dim() != 2 or subject.x.shape[1] != 2:
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
    """The centres of `GRID` * `GRID` cells of the square from -high to high, from its top left: (GRID**2, 2)."""
    centres = high * (2 * torch.arange(GRID) + 1 - GRID) / GRID
    y, x = torch.meshgrid(centres.flip(0), centres, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


@torch.no_grad()
def with_statistics_of(network: nn.Module, x: torch.Tensor) -> nn.Module:
    """A copy in evaluation mode, the running statistics of its batch norms being those of ``x``, shape (n, …)."""

    def fit(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        z = inputs[0].transpose(0, 1).flatten(1)
        norm.running_mean.copy_(z.mean(1))
        # The variance that training normalises by. The unbiased one, which training keeps, is larger by
        # n / (n - 1), and each layer would add that to the next one's error.
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
