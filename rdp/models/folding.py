"""A network as it is run once trained: what is linear and stands in a row or side by side, folded into one.

    BatchNorm behind a linear or convolutional layer     into that layer
    coder                                                computed once, a constant
    concat: learner and coder                            one product, [C ; L] x
    sum_outer, sum_inner: learner and coder              one layer, (L + C) x
    sum: learner and coder                               stay apart, the non-linearity being between them

A coder in the middle of a k x k kernel costs k x k times what it costs beside it, and a narrowed learner that is
written as one layer loses what it saved. So products are joined where that costs no more operations, or as many more
as the caller allows, for machines on which the number of layers counts. A learner that is no single linear map (a
bottleneck, a transformer's sub-layer) keeps its coder beside it.
"""

import copy
import re
from itertools import pairwise

import torch
from timm.models import resnet
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from rdp.models.paths import ConcatLayer, PnnhLayer, PnnhStack, SumInnerLayer, SumLayer

_Linear = nn.Linear | nn.Conv2d
# Whoever runs one of these runs bn1 behind conv1, and so on.
_RESNETS = {resnet.BasicBlock.forward, resnet.Bottleneck.forward, resnet.ResNet.forward}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@torch.no_grad()
def fuse(model: nn.Module, *, growth: float = 1.0) -> nn.Module:
    """A copy of a network for evaluation alone, with the same outputs to rounding and less to compute.

    Args:
        model: any network; norms of its sequences of convolutions, of timm's ResNets and of this project's layers are
            folded, the rest is copied.
        growth: how many times the operations of a learner and its coder may become where one product replaces two.
            1 joins where it is free; 2 joins every learner of one or two 3 x 3 layers.

    Returns:
        The copy, in evaluation mode, its parameters without gradients. It cannot be trained.

    >>> import rdp, torch
    >>> model = rdp.create_model("resnet20", path="pnnh", input_shape=(1, 8, 8)).eval()
    >>> x = torch.randn(4, 1, 8, 8)
    >>> fast = rdp.fuse(model)
    >>> bool(torch.allclose(fast(x), model(x), atol=1e-5))
    True
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    holder = nn.Sequential(fused)
    _replace_stacks(holder, growth)
    for module in list(holder.modules()):
        _fold_norms(module)
    return holder[0]


class FusedStack(nn.Module):
    """PNNH layers with their coders folded in, one after the other."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class FusedConcat(nn.Module):
    """[C x ; phi(L x)] as one product and phi on its second part, in place."""

    def __init__(self, linear: _Linear, coded: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear, self.coded, self.activation = linear, coded, _in_place(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.linear(x)
        self.activation(output[:, self.coded :])
        return output


class FusedLayer(nn.Module):
    """A layer whose coder is a constant beside it."""

    def __init__(self, layer: PnnhLayer, code: torch.Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("code", code.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, self.code)


def _replace_stacks(module: nn.Module, growth: float) -> None:
    for name, child in module.named_children():
        if isinstance(child, PnnhStack):
            codes = [coders() for coders in child.coders]
            kinds = len(codes)
            layers = [_layer(layer, codes[i % kinds][i // kinds], growth) for i, layer in enumerate(child.layers)]
            setattr(module, name, FusedStack(layers))
        else:
            _replace_stacks(child, growth)


def _layer(layer: PnnhLayer, code: torch.Tensor, growth: float) -> nn.Module:
    """A PNNH layer without its norm, and in one product where that is allowed."""
    if isinstance(layer.norm, _NORMS):
        if isinstance(layer, SumInnerLayer):  # the norm is that of the sum, so the coder is scaled with the learner
            code = code * (layer.norm.weight * (layer.norm.running_var + layer.norm.eps).rsqrt())[:, None]
        if isinstance(layer.learner, nn.Sequential):
            layer.learner[-1] = _folded(layer.learner[-1], layer.norm)
        else:
            layer.learner = _folded(layer.learner, layer.norm)
        layer.norm = nn.Identity()
    learner = _as_one(layer.learner)
    if learner is None or isinstance(layer, SumLayer) or not isinstance(layer.norm, nn.Identity):
        return FusedLayer(layer, code)
    joined = _stacked(code, learner) if isinstance(layer, ConcatLayer) else _added(learner, code)
    apart = code.numel() + sum(m.weight.numel() for m in layer.learner.modules() if isinstance(m, _Linear))
    if joined.weight.numel() > growth * apart:
        return FusedLayer(layer, code)
    if isinstance(layer, ConcatLayer):
        return FusedConcat(joined, layer.split.coded, layer.activation)
    return nn.Sequential(joined, _in_place(layer.activation))


def _as_one(learner: nn.Module) -> _Linear | None:
    """A learner that is one linear map, or a narrowing one and a widening one, as one layer; None for any other."""
    if isinstance(learner, _Linear):
        return learner
    pair = list(learner) if isinstance(learner, nn.Sequential) else []
    if len(pair) != 2 or not all(isinstance(m, _Linear) for m in pair):
        return None
    narrow, widen = pair  # the second is pointwise, and the first has no bias
    weight = (widen.weight.flatten(1) @ narrow.weight.flatten(1)).unflatten(1, narrow.weight.shape[1:])
    return _with(narrow, weight, widen.bias)


def _folded(linear: _Linear, norm: nn.Module) -> _Linear:
    """A layer with the normalisation behind it folded in."""
    return (fuse_conv_bn_eval if isinstance(linear, nn.Conv2d) else fuse_linear_bn_eval)(linear, norm)


def _embedded(code: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """C as a layer's weights: in the middle of a kernel, 0 around it."""
    if weight.dim() == 2:
        return code
    rows, middle = weight.shape[2] // 2, weight.shape[3] // 2
    return F.pad(code[:, :, None, None], (middle, middle, rows, rows))


def _stacked(code: torch.Tensor, linear: _Linear) -> _Linear:
    """[C ; L] as one layer."""
    weight = torch.cat([_embedded(code, linear.weight), linear.weight])
    bias = torch.zeros(len(linear.weight)).to(weight) if linear.bias is None else linear.bias
    return _with(linear, weight, torch.cat([torch.zeros(len(code)).to(weight), bias]))


def _added(linear: _Linear, code: torch.Tensor) -> _Linear:
    """L + C as one layer."""
    return _with(linear, linear.weight + _embedded(code, linear.weight), linear.bias)


def _with(linear: _Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> _Linear:
    """A layer like another, with these weights."""
    made = copy.deepcopy(linear)
    made.weight = nn.Parameter(weight, requires_grad=False)
    made.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    width = "out_channels" if isinstance(made, nn.Conv2d) else "out_features"
    setattr(made, width, len(weight))
    return made


def _in_place(activation: nn.Module) -> nn.Module:
    return nn.ReLU(inplace=True) if isinstance(activation, nn.ReLU) else activation


def _fold_norms(module: nn.Module) -> None:
    """Fold each BatchNorm into the layer that a module runs in front of it, and leave an identity in its place."""
    for first, norm in _neighbours(module):
        linear, found = getattr(module, first), getattr(module, norm)
        if isinstance(linear, _Linear) and type(found) in _NORMS and found.running_mean is not None:
            setattr(module, first, _folded(linear, found))
            setattr(module, norm, nn.Identity())


def _neighbours(module: nn.Module) -> list[tuple[str, str]]:
    """The names of children that follow each other for sure: those of a sequence, and conv1, bn1 of timm's ResNets.

    A BatchNorm1d behind a linear layer normalises that layer's channels only where its input has two dimensions,
    which is sure in this project's own networks alone.
    """
    names = [name for name, _ in module.named_children()]
    if type(module).forward is nn.Sequential.forward:
        own = type(module).__module__.startswith("rdp.")
        return [pair for pair in pairwise(names) if own or not isinstance(getattr(module, pair[0]), nn.Linear)]
    if type(module).forward not in _RESNETS:
        return []
    convs = [match for name in names if (match := re.fullmatch(r"conv(\d)", name))]
    return [(match.group(), f"bn{match[1]}") for match in convs if f"bn{match[1]}" in names]
