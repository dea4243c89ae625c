"""Multi-layer perceptrons of linear layers, after Figure 1 of arXiv 2411.09475 (depth 32, width 32)."""

from functools import partial
from math import prod

import torch
from torch import nn

from rdp.methods.options import PnnhOptions
from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.paths import Parts, stack, with_gain

INPUT = "vector"
ARCHITECTURES = {
    "mlp8": {"depth": 8, "width": 32},
    "mlp16": {"depth": 16, "width": 32},
    "mlp32": {"depth": 32, "width": 32},
}

# Biases are left to the normalisation, which would cancel them.
_linear = partial(nn.Linear, bias=False)
_PARTS = Parts(linear=_linear, pointwise=_linear, norm=nn.BatchNorm1d)


class Layer(nn.Sequential):
    """phi(norm(W x)): (batch, width) -> (batch, width)."""

    def __init__(self, width: int, norm_gain: float) -> None:
        super().__init__()
        self.linear = _linear(width, width)
        self.norm = with_gain(nn.BatchNorm1d(width), norm_gain)
        self.relu = nn.ReLU()


class PlainLayer(PlainBranch):
    """phi(norm(W x)), named as in `ResidualLayer`, so that both start with the same weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch(x)


class ResidualLayer(GatedBranch):
    """x + phi(norm(W x))."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gate.add(x, self.branch, x)


def build(
    depth: int,
    width: int,
    *,
    path: str,
    path_options: dict[str, object],
    norm_gain: float,
    input_shape: tuple[int, ...],
    classes: int,
) -> nn.Module:
    """``depth`` hidden layers of ``width`` between a linear stem and a linear head."""
    if path == "pnnh":
        body: nn.Module = stack(width, depth, _PARTS, norm_gain, PnnhOptions(**path_options))
    else:
        wrap = ResidualLayer if path == "residual" else PlainLayer
        body = nn.Sequential(*(wrap(Layer(width, norm_gain)) for _ in range(depth)))
    stem = nn.Linear(prod(input_shape), width)
    head = nn.Linear(width, classes)
    stem.feeds_rectifier = head.feeds_rectifier = False
    return nn.Sequential(nn.Flatten(), stem, body, head)
