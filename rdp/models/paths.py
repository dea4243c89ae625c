"""Paths: how a layer combines its input and output: ``residual``, ``plain`` or ``pnnh``.

A PNNH layer (arXiv 2402.08645) maps x to an output of the same width d. Two parts write the output: a *learner* L with
weights of its own, and a *coder* C, one linear map that all layers of equal shape share. Only the paper's abstract was
available, so the formulas below are this project's choice:

``concat``     [C x ; phi(norm(L x))], both halves d/2 wide. It has no sum and no full-width skip, and half the weights
               of a plain layer.
``sum``        C x + phi(norm(L x)). L is narrowed: a k x k map to d/2 and a 1 x 1 map back to d, with
               (k**2 + 1) / (2 k**2) of a plain layer's weights. With an orthogonal C this *is* a residual network in
               rotated coordinates (substitute z_l = C**-l x_l); say so wherever results of it are shown.
``sum_outer``  phi(norm(L x) + C x): like ``sum``, with the coder's output inside the non-linearity.
``sum_inner``  phi(norm(L x + C x)): learner and coder fold into one plain layer.

phi is ReLU. In a transformer a learner is a whole sub-layer, attention or MLP with the norm in front of it. Nothing
follows it, so norm and phi are identities, and ``sum_outer`` and ``sum_inner`` would equal ``sum``.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions, Split, Variant
from rdp.models.coder import Coders, apply_coder
from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.initialisation import unrectified

Norm = TypeVar("Norm", bound=nn.Module)


@dataclass(frozen=True)
class NetworkConfig:
    """What a family's ``build`` gets in addition to the arguments of its architecture.

    Attributes:
        path: ``residual``, ``plain`` or ``pnnh``.
        pnnh: options of the ``pnnh`` path.
        norm_gain: initial gain of the last normalisation of every branch or learner.
        input_shape: of one example: (channels, height, width) or (features,).
        classes: number of logits.
    """

    path: str
    pnnh: PnnhOptions
    norm_gain: float
    input_shape: tuple[int, ...]
    classes: int


class Parts(NamedTuple):
    """The layers that a family's learners are made of, as functions of their widths.

    ``linear`` makes a linear or k x k convolutional layer, ``pointwise`` a linear or 1 x 1 convolutional one, and
    ``norm`` a normalisation layer with a ``weight`` (its gain); None for no normalisation.
    """

    linear: Callable[[int, int], nn.Module]
    pointwise: Callable[[int, int], nn.Module]
    norm: Callable[[int], nn.Module] | None


def with_gain(norm: Norm, gain: float) -> Norm:
    """Set the gain of a normalisation layer, and return the layer."""
    assert isinstance(norm.weight, torch.Tensor)
    nn.init.constant_(norm.weight, gain)
    return norm


class PnnhLayer(nn.Module):
    """One PNNH layer: from x and C to the output, both of shape (batch, width, …) or (batch, …, width).

    The learner maps ``split.width`` to ``split.written`` channels. Norm and activation are identities by default.
    """

    def __init__(
        self,
        variant: Variant,
        split: Split,
        learner: nn.Module,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.variant, self.split = variant, split
        self.learner = learner
        self.norm = norm or nn.Identity()
        self.activation = activation or nn.Identity()

    def forward(self, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.learner(x)
        if self.variant == "sum_inner":
            output = output + apply_coder(code, x)
        output = self.norm(output)
        if self.variant == "sum_outer":
            output = output + apply_coder(code, x)
        output = self.activation(output)
        if self.variant == "sum":
            output = apply_coder(code, x) + output
        if self.variant == "concat":
            output = torch.cat([apply_coder(code, x), output], dim=1 if x.dim() == 4 else -1)
        return output


def pnnh_layer(width: int, parts: Parts, norm_gain: float, options: PnnhOptions) -> PnnhLayer:
    """A PNNH layer whose learner is one linear or convolutional layer, or a narrowing one and a widening one."""
    split = options.split(width)
    if options.variant == "concat" or split.share == 1:
        learner: nn.Module = parts.linear(width, split.written)
    else:
        inner = round(width * split.share)
        narrow = unrectified(parts.linear(width, inner))
        learner = nn.Sequential(OrderedDict(narrow=narrow, widen=parts.pointwise(inner, width)))
    norm = with_gain(parts.norm(split.written), norm_gain) if parts.norm else None
    return PnnhLayer(options.variant, split, learner, norm, nn.ReLU())


class PnnhStack(nn.Module):
    """Consecutive PNNH layers of equal shape with their coders: (batch, width, …) -> the same shape.

    Each coder is computed once per forward pass, however many layers use it. ``kinds`` kinds of layers alternate, each
    with coders of its own (2 for attention and MLP). Raises `UserError` for layers of different widths.
    """

    def __init__(self, layers: Iterable[PnnhLayer], options: PnnhOptions, kinds: int = 1) -> None:
        super().__init__()
        layers = list(layers)
        shapes = {(layer.split.width, layer.split.coded) for layer in layers}
        if len(shapes) != 1:
            widths = ", ".join(str(width) for width, _ in sorted(shapes))
            raise UserError(f"layers that share a coder need one width; these have {widths or 'none'}")
        width, rows = shapes.pop()
        self.layers = nn.ModuleList(layers)
        self.coders = nn.ModuleList(Coders(width, rows, len(layers[kind::kinds]), options) for kind in range(kinds))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = [coders() for coders in self.coders]
        for index, layer in enumerate(self.layers):
            number, kind = divmod(index, len(codes))
            x = layer(x, codes[kind][number])
        return x


def pnnh_stack(width: int, depth: int, parts: Parts, norm_gain: float, options: PnnhOptions) -> PnnhStack:
    """``depth`` layers of `pnnh_layer`, ``width`` wide."""
    return PnnhStack((pnnh_layer(width, parts, norm_gain, options) for _ in range(depth)), options)


def perceptron(
    config: NetworkConfig,
    depth: int,
    width: int,
    parts: Parts,
    branch: Callable[[], nn.Module],
    relu: Callable[[], nn.Module | None] = lambda: None,
) -> nn.Module:
    """``depth`` hidden layers of ``width`` in the path of ``config``, between a linear stem and a linear head.

    ``parts`` make the PNNH layers. ``branch`` makes the branch of a residual or plain layer, and ``relu`` a rectifier
    behind it.
    """
    if config.path == "pnnh":
        hidden: nn.Module = pnnh_stack(width, depth, parts, config.norm_gain, config.pnnh)
    else:
        layer = GatedBranch if config.path == "residual" else PlainBranch
        hidden = nn.Sequential(*(layer(branch(), relu()) for _ in range(depth)))
    stem = unrectified(nn.Linear(prod(config.input_shape), width))
    return nn.Sequential(nn.Flatten(), stem, hidden, unrectified(nn.Linear(width, config.classes)))
