"""Multi-layer perceptrons with a layer normalisation before every layer, as in transformers."""

from functools import partial
from math import prod

from torch import nn

from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.initialisation import unrectified
from rdp.models.paths import NetworkConfig, Parts, pnnh_stack, with_gain

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


def build(config: NetworkConfig, *, depth: int, width: int) -> nn.Module:
    """``depth`` layers of ``width`` between a linear stem and a linear head."""
    if config.path == "pnnh":
        body: nn.Module = pnnh_stack(width, depth, _PARTS, config.norm_gain, config.pnnh)
    else:
        # x + layer(x) behind a gate, or layer(x). Equal parameter names give both the same initial weights.
        block = GatedBranch if config.path == "residual" else PlainBranch
        body = nn.Sequential(*(block(_layer(width, config.norm_gain)) for _ in range(depth)))
    # No rectifier follows stem and head, so their weights start with variance 1 / fan-in instead of 2 / fan-in.
    stem = unrectified(nn.Linear(prod(config.input_shape), width))
    return nn.Sequential(nn.Flatten(), stem, body, unrectified(nn.Linear(width, config.classes)))
