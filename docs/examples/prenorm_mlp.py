"""Multi-layer perceptrons with a layer normalisation before every layer, as in transformers."""

from functools import partial
from math import prod

from torch import Tensor, nn

from rdp.methods.options import PnnhOptions
from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.paths import Parts, stack, with_gain

INPUT = "vector"
ARCHITECTURES = {
    "prenorm8": {"depth": 8, "width": 32},
    "prenorm32": {"depth": 32, "width": 32},
}

_linear = partial(nn.Linear, bias=False)
_PARTS = Parts(linear=_linear, pointwise=_linear, norm=nn.LayerNorm)  # the learner of a PNNH layer


def _layer(width: int, norm_gain: float) -> nn.Module:
    """Return relu(W norm(x))."""
    return nn.Sequential(with_gain(nn.LayerNorm(width), norm_gain), _linear(width, width), nn.ReLU())


class PlainLayer(PlainBranch):
    """A layer without a residual connection. Equal parameter names give it the initial weights of `ResidualLayer`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x)


class ResidualLayer(GatedBranch):
    """x plus the layer, which the gate can drop, scale or freeze."""

    def forward(self, x: Tensor) -> Tensor:
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
    """Return ``depth`` layers of ``width`` between a linear stem and a linear head."""
    if path == "pnnh":
        body: nn.Module = stack(width, depth, _PARTS, norm_gain, PnnhOptions(**path_options))
    else:
        wrap = ResidualLayer if path == "residual" else PlainLayer
        body = nn.Sequential(*(wrap(_layer(width, norm_gain)) for _ in range(depth)))
    stem, head = nn.Linear(prod(input_shape), width), nn.Linear(width, classes)
    stem.feeds_rectifier = head.feeds_rectifier = False  # so their weights start with variance 1 / fan-in, not 2
    return nn.Sequential(nn.Flatten(), stem, body, head)
