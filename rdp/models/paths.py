"""Paths: how a layer combines its input and output: ``residual``, ``plain`` or ``pnnh``.

A PNNH layer (arXiv 2402.08645) maps x to an output of the same width d. Two parts write the output: a *learner* L with
weights of its own, and a *coder* C, one linear map that all layers of equal shape share. Only the paper's abstract was
available, so the formulas below are this project's choice:

``concat``     [C x ; phi(norm(L x))], both halves d/2 wide. It has no sum and no full-width skip, and half the weights
               of a plain layer.
``window``     the same formula, and C drops the d/m channels that were written first. So the next m layers read what a
               layer writes, without change. By default m = 8, and a learner has two layers, of which the first is
               pointwise: it writes phi(norm(L2 phi(norm(L1 x)))). With ``preactivation`` it writes
               L2 phi(norm(L1 phi(norm(x)))), and so normalises anew what it reads, as in DenseNets (arXiv 1608.06993,
               section 3). Widths grow until the layers have half of the residual network's weights. The default.
``strict``     phi(norm([C x ; L x])), both halves d/2 wide, with C a k x k map. No part of x passes a layer without
               norm and rectifier.
``two_sided``  [phi(z) ; phi(-z)] with z = norm(L x), d/2 wide. It has no coder. The rectifiers lose nothing of z.
``sum``        C x + phi(norm(L x)). L is narrowed: a k x k map to d/2 and a 1 x 1 map back to d, with
               (k**2 + 1) / (2 k**2) of a plain layer's weights. With an orthogonal C this *is* a residual network in
               rotated coordinates (substitute z_l = C**-l x_l); say so wherever results of it are shown.
``sum_outer``  phi(norm(L x) + C x): like ``sum``, with the coder's output inside the non-linearity.
``sum_inner``  phi(norm(L x + C x)): learner and coder fold into one plain layer.

phi is ReLU. In a transformer a learner is a whole sub-layer, attention or MLP with the norm in front of it. Nothing
follows it, so norm and phi are identities. There ``sum_outer`` and ``sum_inner`` would equal ``sum``, and ``strict``
and ``two_sided`` would have no non-linearity where they need it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions, Split, Variant
from rdp.models.coder import Code, Coders, apply_coder, channel_axis
from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.initialisation import mirrored, unrectified
from rdp.models.pnnh_width import INNER, learner_layers, stack_weights, width_of_share

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


class Learner(nn.Sequential):
    """A learner of one or two layers with a norm and a rectifier before each, or between two of them.

    ``second(phi(norm(first(x))))``, or with ``preactivation`` also a norm and phi in front of ``first``. Networks
    without norms leave them out. ``norm_gain`` is that of the last norm that precedes a layer.
    """

    def __init__(self, split: Split, parts: Parts, options: PnnhOptions, layers: int, norm_gain: float = 1.0) -> None:
        widths = [split.width, *([INNER[options.learner] * split.written] if layers == 2 else []), split.written]
        modules: dict[str, nn.Module] = {}
        for index, (width, written) in enumerate(pairwise(widths)):
            if index or options.preactivation:
                if parts.norm:
                    gain = norm_gain if options.preactivation and index == layers - 1 else 1.0
                    modules[f"norm{index}"] = with_gain(parts.norm(width), gain)
                # In place only on the output of a norm: the state is read again.
                modules[f"relu{index}"] = nn.ReLU(inplace=parts.norm is not None)
            is_pointwise = layers == 2 and index == 0 and options.learner == "bottleneck"
            modules[f"layer{index}"] = (parts.pointwise if is_pointwise else parts.linear)(width, written)
        super().__init__(OrderedDict(modules))


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

    def forward(self, x: torch.Tensor, code: Code | None) -> torch.Tensor:
        learnt: torch.Tensor = self.learner(x)
        if code is None:  # two_sided
            learnt = self.norm(learnt)
            return torch.cat([self.activation(learnt), self.activation(-learnt)], channel_axis(x))
        coded = apply_coder(code, x)
        if self.variant == "strict":
            learnt = torch.cat([coded, learnt], channel_axis(x))
        if self.variant == "sum_inner":
            learnt = learnt + coded
        learnt = self.norm(learnt)
        if self.variant == "sum_outer":
            learnt = learnt + coded
        learnt = self.activation(learnt)
        if self.variant == "sum":
            learnt = coded + learnt
        if self.variant in {"concat", "window"}:
            learnt = torch.cat([coded, learnt], channel_axis(x))
        return learnt


def pnnh_layer(width: int, parts: Parts, norm_gain: float, options: PnnhOptions, layers: int = 1) -> PnnhLayer:
    """A PNNH layer with a learner of ``layers`` layers.

    In the sums, one layer is a narrowing and a widening map, unless the learner has the full width.
    """
    split = options.split(width)
    if options.preactivation:
        return PnnhLayer(options.variant, split, Learner(split, parts, options, layers, norm_gain))
    if layers == 2:
        learner: nn.Module = Learner(split, parts, options, layers)
    elif split.written < width or split.share == 1:
        learner = parts.linear(width, split.written)
    else:
        inner = round(width * split.share)
        narrow = unrectified(parts.linear(width, inner))
        learner = nn.Sequential(OrderedDict(narrow=narrow, widen=parts.pointwise(inner, width)))
    if options.variant == "two_sided" and options.start == "orthogonal":
        mirrored(learner)
    normalised = width if options.variant == "strict" else split.written
    norm = with_gain(parts.norm(normalised), norm_gain) if parts.norm else None
    return PnnhLayer(options.variant, split, learner, norm, nn.ReLU())


class PnnhStack(nn.Module):
    """Consecutive PNNH layers of equal shape with their coders: (batch, width, …) -> the same shape.

    Each coder is computed once per forward pass, however many layers use it. ``kinds`` kinds of layers alternate, each
    with coders of its own (2 for attention and MLP). ``entry`` and ``exit`` map another width to that of the layers,
    and back. Raises `UserError` for layers of different widths.

    ``replaced`` holds the number of the residual block that each layer replaces, in a stage of a converted model.
    """

    def __init__(
        self,
        layers: Iterable[PnnhLayer],
        options: PnnhOptions,
        kinds: int = 1,
        entry: nn.Module | None = None,
        exit: nn.Module | None = None,
    ) -> None:
        super().__init__()
        layers = list(layers)
        shapes = {(layer.split.width, layer.split.coded) for layer in layers}
        if len(shapes) != 1:
            widths = ", ".join(str(width) for width, _ in sorted(shapes))
            raise UserError(f"layers that share a coder need one width; these have {widths or 'none'}")
        width, rows = shapes.pop()
        self.width = width
        kernel = _kernel(layers[0].learner) if options.variant == "strict" else ()
        self.entry, self.exit = entry or nn.Identity(), exit or nn.Identity()
        self.replaced: list[int] = []
        self.layers = nn.ModuleList(layers)
        self.coders = nn.ModuleList(
            Coders(width, rows, len(layers[kind::kinds]), options, kernel) for kind in range(kinds)
        )

    def codes(self) -> list[Code | None]:
        """The code of each layer, in order."""
        by_kind = [coders() for coders in self.coders]
        return [by_kind[index % len(by_kind)][index // len(by_kind)] for index in range(len(self.layers))]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        for layer, code in zip(self.layers, self.codes(), strict=True):
            x = layer(x, code)
        output: torch.Tensor = self.exit(x)
        return output


def _kernel(learner: nn.Module) -> tuple[int, ...]:
    """The sides of a convolution's kernel; () for a linear layer or a bottleneck, beside which C is a matrix."""
    return tuple(learner.kernel_size) if isinstance(learner, nn.Conv2d) else ()


def pnnh_stack(
    width: int, depth: int, parts: Parts, norm_gain: float, options: PnnhOptions, exit: nn.Module | None = None
) -> PnnhStack:
    """A stack of ``depth`` layers, ``width`` wide, with ``exit`` behind them; see `PnnhStack`.

    With ``preactivation``, a norm and a rectifier follow the last layer.
    """
    counts = learner_layers(depth, options)
    ends = [exit] if exit else []
    if options.preactivation:
        ends = [*([parts.norm(width)] if parts.norm else []), nn.ReLU(), *ends]
    layers = [pnnh_layer(width, parts, norm_gain, options, count) for count in counts]
    return PnnhStack(layers, options, exit=nn.Sequential(*ends) if ends else None)


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
        residual = depth * width**2
        width = width_of_share(width, residual, lambda w: stack_weights(w, depth, 1, config.pnnh), config.pnnh)
        hidden: nn.Module = pnnh_stack(width, depth, parts, config.norm_gain, config.pnnh)
    else:
        layer = GatedBranch if config.path == "residual" else PlainBranch
        hidden = nn.Sequential(*(layer(branch(), relu()) for _ in range(depth)))
    stem = unrectified(nn.Linear(prod(config.input_shape), width))
    return nn.Sequential(nn.Flatten(), stem, hidden, unrectified(nn.Linear(width, config.classes)))
