"""Paths: how a layer's output meets its input, ``residual``, ``plain`` or ``pnnh``.

The PNNH layers (arXiv 2402.08645) read x, d wide, and write d: a *learner* L with weights of its own and a
*coder* C, one linear map shared by all layers of equal shape. The paper's text was not at hand beyond its
abstract; the algebra below is this project's reading:

``concat``     [C x ; phi(norm(L x))], both halves d/2 wide. No sum and no skip of full width: half the weights
               of a plain layer.
``sum``        C x + phi(norm(L x)), L narrowed: a k x k map onto d/2 and a 1 x 1 map back to d,
               (k**2 + 1) / (2 k**2) of a plain layer's weights. With an orthogonal C this *is* a residual
               network in rotated coordinates (substitute z_l = C**-l x_l); say so wherever it is shown.
``sum_outer``  phi(norm(L x) + C x), as ``sum`` with the coder's output inside the non-linearity.
``sum_inner``  phi(norm(L x + C x)): learner and coder fold into one plain layer.

phi is ReLU. In a transformer a learner is a whole sub-layer, attention or MLP with the norm in front of it, and
nothing follows it: norm and phi are identities, so ``sum_outer`` and ``sum_inner`` would be ``sum``.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions, Split
from rdp.models.coder import Coders, apply_coder


class Parts(NamedTuple):
    """What a family makes the learners of its layers of.

    Attributes:
        linear: (in width, out width) -> a linear or k x k convolutional layer.
        pointwise: (in width, out width) -> a linear or 1 x 1 convolutional layer.
        norm: width -> a normalisation layer with a ``weight`` (its gain); None for no normalisation.
    """

    linear: Callable[[int, int], nn.Module]
    pointwise: Callable[[int, int], nn.Module]
    norm: Callable[[int], nn.Module] | None


def with_gain(norm: nn.Module, gain: float) -> nn.Module:
    """The same normalisation layer, its gain started at ``gain``."""
    nn.init.constant_(norm.weight, gain)
    return norm


class PnnhLayer(nn.Module):
    """One layer: x and C to the output, both (batch, width, …) or (batch, …, width).

    Args:
        split: who writes what.
        learner: from ``split.width`` to ``split.written`` channels.
        norm, activation: what follows the learner; identities where it ends in neither.
    """

    def __init__(
        self, split: Split, learner: nn.Module, norm: nn.Module | None = None, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.split = split
        self.learner = learner
        self.norm = norm or nn.Identity()
        self.activation = activation or nn.Identity()

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class ConcatLayer(PnnhLayer):
    """[C x ; phi(norm(L x))]."""

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        learnt = self.activation(self.norm(self.learner(x)))
        return torch.cat([apply_coder(code, x), learnt], dim=1 if x.dim() == 4 else -1)


class SumLayer(PnnhLayer):
    """C x + phi(norm(L x))."""

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return apply_coder(code, x) + self.activation(self.norm(self.learner(x)))


class SumOuterLayer(PnnhLayer):
    """phi(norm(L x) + C x)."""

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.learner(x)) + apply_coder(code, x))


class SumInnerLayer(PnnhLayer):
    """phi(norm(L x + C x))."""

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.learner(x) + apply_coder(code, x)))


LAYERS: dict[str, type[PnnhLayer]] = {
    "concat": ConcatLayer,
    "sum": SumLayer,
    "sum_outer": SumOuterLayer,
    "sum_inner": SumInnerLayer,
}


def layer(width: int, parts: Parts, norm_gain: float, options: PnnhOptions) -> PnnhLayer:
    """A PNNH layer whose learner is one linear or convolutional layer, or that narrowed and widened again."""
    split = options.split(width)
    if options.variant == "concat" or split.share == 1:
        learner: nn.Module = parts.linear(width, split.written)
    else:
        inner = round(width * split.share)
        narrow, widen = parts.linear(width, inner), parts.pointwise(inner, width)
        narrow.feeds_rectifier = False  # the 1 x 1 map follows at once
        learner = nn.Sequential(OrderedDict(narrow=narrow, widen=widen))
    norm = with_gain(parts.norm(split.written), norm_gain) if parts.norm else None
    return LAYERS[options.variant](split, learner, norm, nn.ReLU())


class PnnhStack(nn.Module):
    """PNNH layers of equal shape, one after the other, with their coders: (batch, width, …) -> the same.

    The coders are computed once a forward pass, however many layers use each.

    Args:
        layers: in the order of the forward pass.
        options: of the coders.
        kinds: how many kinds of layers take turns, each with coders of its own (2 for attention and MLP).

    Raises:
        UserError: layers of unequal widths, which no coder can serve.
    """

    def __init__(self, layers: Iterable[PnnhLayer], options: PnnhOptions, kinds: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        shapes = {(found.split.width, found.split.coded) for found in self.layers}
        if len(shapes) != 1:
            widths = ", ".join(str(width) for width, _ in sorted(shapes))
            raise UserError(f"a coder is shared by layers of equal shape, and these are {widths or 'none'} wide")
        shape = shapes.pop()
        self.coders = nn.ModuleList(Coders(*shape, len(self.layers[kind::kinds]), options) for kind in range(kinds))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = [coders() for coders in self.coders]
        for place, found in enumerate(self.layers):
            turn, kind = divmod(place, len(codes))
            x = found(x, codes[kind][turn])
        return x


def stack(width: int, depth: int, parts: Parts, norm_gain: float, options: PnnhOptions) -> PnnhStack:
    """``depth`` layers of `layer`, ``width`` wide."""
    return PnnhStack((layer(width, parts, norm_gain, options) for _ in range(depth)), options)
