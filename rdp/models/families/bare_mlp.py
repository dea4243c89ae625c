"""Multi-layer perceptrons without normalisation, the networks of the closed forms in `rdp.claims.theory`.

The residual layer is phi(x + W x), as second-hand accounts of arXiv 2402.08645 give it. Without normalisation its
outputs grow with depth, and ``norm_gain`` has no effect.
"""

from functools import partial

from torch import nn

from rdp.models.paths import NetworkConfig, Parts, perceptron

INPUT = "vector"
ARCHITECTURES = {
    "bare8": {"depth": 8, "width": 256},
    "bare32": {"depth": 32, "width": 256},
}

# As in `rdp.models.families.mlp`, only stem and head have a bias, which starts at 0.
_linear = partial(nn.Linear, bias=False)
_PARTS = Parts(linear=_linear, pointwise=_linear, norm=None)


def build(config: NetworkConfig, *, depth: int, width: int) -> nn.Module:
    """``depth`` hidden layers of ``width`` between a linear stem and a linear head."""
    return perceptron(config, depth, width, _PARTS, lambda: _linear(width, width), nn.ReLU)
