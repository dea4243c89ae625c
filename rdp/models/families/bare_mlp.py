"""Multi-layer perceptrons without normalisation, which the closed forms of `rdp.claims.theory` are held against.

The residual layer is that of arXiv 2402.08645 as second-hand accounts give it, phi(x + W x). Without a norm its
outputs grow with depth, and ``norm_gain`` has nothing to act on.
"""

from functools import partial
from math import prod

import torch
from torch import nn

from rdp.methods.options import PnnhOptions
from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.paths import Parts, stack

INPUT = "vector"
ARCHITECTURES = {
    "bare8": {"depth": 8, "width": 256},
    "bare32": {"depth": 32, "width": 256},
}

# As in `rdp.models.families.mlp`, only stem and head have a bias, which starts at 0.
_linear = partial(nn.Linear, bias=False)
_PARTS = Parts(linear=_linear, pointwise=_linear, norm=None)


class PlainLayer(PlainBranch):
    """phi(W x): (batch, width) -> (batch, width)."""

    def __init__(self, width: int) -> None:
        super().__init__(_linear(width, width))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.branch(x))


class ResidualLayer(GatedBranch):
    """phi(x + W x), W named as in `PlainLayer`, so that both start with the same weights."""

    def __init__(self, width: int) -> None:
        super().__init__(_linear(width, width))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.gate.add(x, self.branch, x))


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
        body = nn.Sequential(*(wrap(width) for _ in range(depth)))
    stem = nn.Linear(prod(input_shape), width)
    head = nn.Linear(width, classes)
    stem.feeds_rectifier = head.feeds_rectifier = False
    return nn.Sequential(nn.Flatten(), stem, body, head)
