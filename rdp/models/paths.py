"""Paths: how a layer's output meets its input, ``residual``, ``plain`` or ``pnnh``.

The PNNH layers (arXiv 2402.08645) read x, d wide, and write d: a *learner* with weights of its own and a
*coder* C, one linear map shared by all layers of equal shape. The paper's text was not at hand beyond its
abstract; the algebra below is this project's reading, with phi = ReLU:

``concat``  [C x ; phi(norm(L x))], both halves d/2 wide. No sum and no skip of full width: half the weights
            of a plain layer.
``sum``     C x + phi(norm(L x)), L narrowed to a k x k map onto d/2 and a 1 x 1 map back to d:
            (k**2 + 1) / (2 k**2) of a plain layer's weights. With an orthogonal C this *is* a residual
            network in rotated coordinates (substitute z_l = C**-l x_l); say so wherever it is shown.

The coder is kept orthogonal (for ``concat``, its rows orthonormal) and starts at the identity. It is used at
every layer, so a free one has powers that explode or vanish.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

PNNH_VARIANTS = ("concat", "sum")


class Parts(NamedTuple):
    """What a family makes its layers of.

    Attributes:
        linear: (in width, out width) -> a linear or k x k convolutional layer.
        pointwise: (in width, out width) -> a linear or 1 x 1 convolutional layer.
        norm: width -> a normalisation layer with a ``weight`` (its gain).
    """

    linear: Callable[[int, int], nn.Module]
    pointwise: Callable[[int, int], nn.Module]
    norm: Callable[[int], nn.Module]


def with_gain(norm: nn.Module, gain: float) -> nn.Module:
    """The same normalisation layer, its gain started at ``gain``."""
    nn.init.constant_(norm.weight, gain)
    return norm


class Coder(nn.Module):
    """A linear map with orthonormal rows, from ``width`` to ``rows`` channels, started at the identity.

    C = the first ``rows`` rows of exp(A - A^T), so C C^T = I whatever the optimizer does to A, to a rounding
    error that grows with the norm of A - A^T, and A = 0 is the identity. Calling the module computes C, shape
    (rows, width); a network does so once a forward pass and hands it to every layer that uses it. The gradient
    of A adds up over the ``uses`` layers, hence ``learning_rate_factor`` = 1 / uses; weight decay would pull C to
    the identity and is left out.
    """

    def __init__(self, width: int, rows: int, uses: int) -> None:
        super().__init__()
        self.rows = rows
        self.skew = nn.Parameter(torch.zeros(width, width))
        self.skew.learning_rate_factor = 1 / uses
        self.skew.no_weight_decay = True

    def forward(self) -> torch.Tensor:
        device = "cpu" if self.skew.is_meta else self.skew.device.type  # a count without numbers knows no autocast
        with torch.autocast(device, enabled=False):
            return torch.linalg.matrix_exp(self.skew - self.skew.T)[: self.rows]


def apply_coder(code: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """C x along the channels: x of shape (batch, channels) or (batch, channels, height, width)."""
    if x.dim() == 4:
        return nn.functional.conv2d(x, code[:, :, None, None])
    return nn.functional.linear(x, code)


class ConcatLayer(nn.Module):
    """[C x ; phi(norm(L x))]."""

    def __init__(self, width: int, parts: Parts, norm_gain: float) -> None:
        super().__init__()
        self.linear = parts.linear(width, width - width // 2)
        self.norm = with_gain(parts.norm(width - width // 2), norm_gain)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return torch.cat([apply_coder(code, x), self.relu(self.norm(self.linear(x)))], dim=1)


class SumLayer(nn.Module):
    """C x + phi(norm(L x)), L through half the width."""

    def __init__(self, width: int, parts: Parts, norm_gain: float) -> None:
        super().__init__()
        self.narrow = parts.linear(width, width // 2)
        self.narrow.feeds_rectifier = False  # the 1 x 1 map follows at once
        self.widen = parts.pointwise(width // 2, width)
        self.norm = with_gain(parts.norm(width), norm_gain)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return apply_coder(code, x) + self.relu(self.norm(self.widen(self.narrow(x))))


class PnnhStack(nn.Module):
    """``depth`` PNNH layers of equal shape with one coder between them: (batch, width, …) -> the same."""

    def __init__(self, width: int, depth: int, parts: Parts, norm_gain: float, variant: str = "concat") -> None:
        super().__init__()
        if variant not in PNNH_VARIANTS:
            raise ValueError(f"unknown PNNH variant '{variant}', valid: {', '.join(PNNH_VARIANTS)}")
        if width % 2:
            raise ValueError(f"a PNNH layer needs an even width, got {width}")
        layer, rows = (ConcatLayer, width // 2) if variant == "concat" else (SumLayer, width)
        self.coder = Coder(width, rows, uses=depth)
        self.layers = nn.ModuleList(layer(width, parts, norm_gain) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        code = self.coder()
        for layer in self.layers:
            x = layer(x, code)
        return x
