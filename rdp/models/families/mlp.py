"""Multi-layer perceptrons of linear layers, after Figure 1 of arXiv 2411.09475 (depth 32, width 32)."""

from functools import partial

from torch import nn

from rdp.models.paths import NetworkConfig, Parts, perceptron, with_gain

INPUT = "vector"
ARCHITECTURES = {
    "mlp8": {"depth": 8, "width": 32},
    "mlp16": {"depth": 16, "width": 32},
    "mlp32": {"depth": 32, "width": 32},
}

# No bias: the normalisation would cancel it.
_linear = partial(nn.Linear, bias=False)
_PARTS = Parts(linear=_linear, pointwise=_linear, norm=nn.BatchNorm1d)


class Layer(nn.Sequential):
    """phi(norm(W x)): (batch, width) -> (batch, width)."""

    def __init__(self, width: int, norm_gain: float) -> None:
        super().__init__()
        self.linear = _linear(width, width)
        self.norm = with_gain(nn.BatchNorm1d(width), norm_gain)
        self.relu = nn.ReLU()


def build(config: NetworkConfig, *, depth: int, width: int) -> nn.Module:
    """``depth`` hidden layers of ``width`` between a linear stem and a linear head."""
    return perceptron(config, depth, width, _PARTS, lambda: Layer(width, config.norm_gain))
