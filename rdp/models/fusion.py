"""Fusing a trained network for inference: norms into the layers before them, coders into learners.

    BatchNorm after a linear or convolutional layer      into that layer
    coder                                                computed once, a constant
    concat, window: learner and coder                    one product, [C ; L] x
    strict: learner and coder                            one layer, [C ; L] x
    sum_outer, sum_inner: learner and coder              one layer, (L + C) x
    sum: learner and coder                               separate, because the non-linearity is between them

A coder embedded in a k x k kernel costs k x k times as much as a separate one, and a narrowed learner written as one
layer loses its saving. So products are fused where that costs no more operations, or as many more as the caller allows,
for machines on which the number of layers counts. A coder that copies channels costs no operations. A learner that is
not one linear map (two layers, a bottleneck, a transformer's sub-layer) keeps a separate coder.
"""

import copy
import re
from itertools import pairwise

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from rdp.errors import UserError
from rdp.models.coder import Code, as_matrix, channel_axis
from rdp.models.initialisation import centred
from rdp.models.paths import Learner, PnnhLayer, PnnhStack
from rdp.models.timm_transformer import TransformerStack

_Linear = nn.Linear | nn.Conv2d
_Norm = nn.BatchNorm1d | nn.BatchNorm2d
# What they compute is known. A subclass, such as one with a parametrization, may compute something else.
_LINEARS: set[type[nn.Module]] = {nn.Linear, nn.Conv2d}
_NORMS: set[type[nn.Module]] = {nn.BatchNorm1d, nn.BatchNorm2d}
_RESNET = (ResNet.forward, ResNet.forward_features)
_LAYERS = {PnnhLayer, Learner, nn.Sequential, nn.ReLU, nn.Identity, *_LINEARS, *_NORMS}


@torch.no_grad()
def fuse(model: nn.Module, *, growth: float = 1.0) -> nn.Module:
    """A copy of a network for inference, with the same outputs up to rounding and fewer operations.

    Batch norms are fused in sequences of convolutions, in timm's ResNets and in this project's layers. PNNH coders
    (arXiv 2402.08645) are fused with their learners. Everything else is copied; so are layers and norms of another
    class than torch's own, and those with hooks or parametrizations.

    Args:
        model: any network; it stays unchanged.
        growth: allowed factor on the operations of a learner and its coder when one product replaces two. 1 fuses
            where it is free; 2 fuses every learner of one or two 3 x 3 layers.

    Returns:
        The copy, in evaluation mode, its parameters without gradients. It cannot be trained.

    Raises:
        UserError: a model that cannot be copied.

    >>> import rdp, torch
    >>> model = rdp.create_model("resnet20", path="pnnh", input_shape=(1, 8, 8)).eval()
    >>> x = torch.randn(4, 1, 8, 8)
    >>> fast = rdp.fuse(model)
    >>> bool(torch.allclose(fast(x), model(x), atol=1e-5))
    True
    """
    try:
        copied = copy.deepcopy(model)
    except RuntimeError as error:  # of torch.nn.utils.prune and the like, until their changes are made permanent
        raise UserError(f"{type(model).__name__}: it cannot be copied: {error}") from None
    holder = nn.Sequential(copied.eval().requires_grad_(False))
    _replace_stacks(holder, growth)
    for module in list(holder.modules()):
        _fuse_norms(module)
    return holder[0]


class FusedConcat(nn.Module):
    """[C x ; phi(L x)] as one product with the weights [C ; L]; C writes the first ``coded`` channels."""

    def __init__(self, linear: _Linear, coded: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear, self.coded, self.activation = linear, coded, _in_place(activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.linear(x)
        self.activation(output[:, self.coded :])
        return output


class FusedLayer(nn.Module):
    """A PNNH layer with a constant coder; None in ``two_sided``."""

    code: torch.Tensor | None

    def __init__(self, layer: PnnhLayer, code: Code | None) -> None:
        super().__init__()
        self.layer = layer
        self.ranges = code if isinstance(code, tuple) else None
        self.register_buffer("code", code.clone() if isinstance(code, torch.Tensor) else None)

    def forward(self, x: torch.Tensor, code: None = None) -> torch.Tensor:
        output: torch.Tensor = self.layer(x, self.code if self.ranges is None else self.ranges)
        return output


def _is_known(module: nn.Module, kinds: set[type[nn.Module]]) -> bool:
    """Whether a module is of one of these classes, without hooks or a ``forward`` of its own."""
    is_changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) in kinds and not is_changed


def _replace_stacks(module: nn.Module, growth: float) -> None:
    for name, child in module.named_children():
        if isinstance(child, PnnhStack) and _is_known(child, {PnnhStack, TransformerStack}):
            layers = [layer for layer in child.layers if isinstance(layer, PnnhLayer)]
            fused = [_fuse_layer(layer, code, growth) for layer, code in zip(layers, child.codes(), strict=True)]
            if isinstance(child, TransformerStack):  # which timm also calls block by block
                child.layers, child.coders = nn.ModuleList(fused), nn.ModuleList()
            else:
                setattr(module, name, nn.Sequential(child.entry, *fused, child.exit))
        else:
            _replace_stacks(child, growth)


def _fuse_layer(layer: PnnhLayer, code: Code | None, growth: float) -> nn.Module:
    """A PNNH layer without its norm, and as one product if the growth allows it."""
    variant, norm = layer.variant, layer.norm
    if not all(_is_known(module, _LAYERS) for module in layer.modules()):
        return FusedLayer(layer, code)
    if variant == "strict":
        return _fuse_strict(layer, code)
    if isinstance(norm, _Norm):
        if variant == "sum_inner":  # the norm acts on the sum, so it scales coder and learner
            assert norm.running_var is not None
            assert isinstance(code, torch.Tensor)
            code = code * (norm.weight * (norm.running_var + norm.eps).rsqrt())[:, None]
        if isinstance(layer.learner, nn.Sequential):
            layer.learner[-1] = _fuse_norm(layer.learner[-1], norm)
        else:
            layer.learner = _fuse_norm(layer.learner, norm)
        layer.norm = nn.Identity()
    learner = _single_linear(layer.learner)
    if learner is None or code is None or variant == "sum" or not isinstance(layer.norm, nn.Identity):
        return FusedLayer(layer, code)
    matrix = as_matrix(code, layer.split.width).to(learner.weight)
    multiplied = isinstance(code, torch.Tensor) and code.is_floating_point()
    product = _stack_rows(matrix, learner) if variant in {"concat", "window"} else _add(learner, matrix)
    separate = sum(m.weight.numel() for m in layer.learner.modules() if isinstance(m, _Linear))
    if product.weight.numel() > growth * (separate + multiplied * matrix.numel()):
        return FusedLayer(layer, code)
    if variant in {"concat", "window"}:
        return FusedConcat(product, layer.split.coded, layer.activation)
    return nn.Sequential(product, _in_place(layer.activation))


def _fuse_strict(layer: PnnhLayer, code: Code | None) -> nn.Module:
    """A ``strict`` layer, whose norm acts on the outputs of coder and learner, without its norm."""
    assert isinstance(code, torch.Tensor)
    learner, norm, coded = layer.learner, layer.norm, layer.split.coded
    if isinstance(learner, _Linear):
        product = _stack_rows(code, learner)
        return nn.Sequential(_fuse_norm(product, norm) if isinstance(norm, _Norm) else product, layer.activation)
    assert isinstance(learner, nn.Sequential)
    assert isinstance(norm, nn.BatchNorm2d)
    coder = nn.Conv2d(layer.split.width, coded, 1, bias=False).to(code).eval()
    coder.weight.copy_(centred(code, (1, 1)))
    first = _fuse_norm(coder, _channels_of(norm, slice(coded)))
    learner[-1] = _fuse_norm(learner[-1], _channels_of(norm, slice(coded, None)))
    return nn.Sequential(SideBySide([first, learner]), layer.activation)


class SideBySide(nn.ModuleList):
    """The outputs of several modules for one input, side by side along the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([module(x) for module in self], channel_axis(x))


def _channels_of(norm: nn.BatchNorm2d, channels: slice) -> nn.BatchNorm2d:
    """The norm of some of the channels, in evaluation mode."""
    assert norm.running_mean is not None
    part = nn.BatchNorm2d(len(norm.weight[channels]), norm.eps).to(norm.weight).eval()
    part.load_state_dict({name: value[channels] if value.dim() else value for name, value in norm.state_dict().items()})
    return part


def _single_linear(learner: nn.Module) -> _Linear | None:
    """A learner of one linear layer, or of a narrowing and a widening one, as one layer; None for any other."""
    if isinstance(learner, _Linear):
        return learner
    if not isinstance(learner, nn.Sequential) or len(learner) != 2:
        return None
    narrow, widen = learner  # the second is pointwise, and the first has no bias
    if not (isinstance(narrow, _Linear) and isinstance(widen, _Linear)):
        return None
    weight = (widen.weight.flatten(1) @ narrow.weight.flatten(1)).reshape(-1, *narrow.weight.shape[1:])
    return _with_weights(narrow, weight, widen.bias)


def _fuse_norm(linear: nn.Module, norm: _Norm) -> _Linear:
    """A layer fused with the normalisation after it."""
    if isinstance(linear, nn.Conv2d):
        return fuse_conv_bn_eval(linear, norm)
    assert isinstance(linear, nn.Linear)
    return fuse_linear_bn_eval(linear, norm)


def _embedded(code: torch.Tensor, linear: _Linear) -> torch.Tensor:
    """C as weights of a layer: a matrix is the centre of a kernel that is otherwise 0."""
    return code if code.dim() == linear.weight.dim() else centred(code, linear.weight.shape[2:])


def _stack_rows(code: torch.Tensor, linear: _Linear) -> _Linear:
    """[C ; L] as one layer."""
    weight = torch.cat([_embedded(code, linear), linear.weight])
    bias = torch.zeros(len(linear.weight)).to(weight) if linear.bias is None else linear.bias
    return _with_weights(linear, weight, torch.cat([torch.zeros(len(code)).to(weight), bias]))


def _add(linear: _Linear, code: torch.Tensor) -> _Linear:
    """L + C as one layer."""
    return _with_weights(linear, linear.weight + _embedded(code, linear), linear.bias)


def _with_weights(linear: _Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> _Linear:
    """A copy of a layer with other weights."""
    layer = copy.deepcopy(linear)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
    setattr(layer, "out_channels" if isinstance(layer, nn.Conv2d) else "out_features", len(weight))
    return layer


def _in_place(activation: nn.Module) -> nn.Module:
    return nn.ReLU(inplace=True) if isinstance(activation, nn.ReLU) else activation


def _fuse_norms(module: nn.Module) -> None:
    """Fuse each BatchNorm with the layer that runs before it, and replace it by an identity."""
    for linear_name, norm_name in _consecutive(module):
        linear, norm = getattr(module, linear_name), getattr(module, norm_name)
        if _is_known(linear, _LINEARS) and _is_known(norm, _NORMS) and norm.running_mean is not None:
            setattr(module, linear_name, _fuse_norm(linear, norm))
            setattr(module, norm_name, nn.Identity())


def _consecutive(module: nn.Module) -> list[tuple[str, str]]:
    """The names of children that certainly run one after the other: those of a sequence, and convN, bnN of a ResNet.

    A BatchNorm1d fits the linear layer before it only for inputs of two dimensions, as in this project's networks.
    """
    kind, names = type(module), list(module._modules)  # named_children() leaves out the repetitions of a module
    if "forward" in vars(module):
        return []
    if kind.forward is nn.Sequential.forward:
        own = kind.__module__.startswith("rdp.")
        return [pair for pair in pairwise(names) if own or not isinstance(getattr(module, pair[0]), nn.Linear)]
    # In these forward passes bn1 follows conv1, and so on.
    is_block = kind.forward in {BasicBlock.forward, Bottleneck.forward}
    if not is_block and (kind.forward, getattr(kind, "forward_features", None)) != _RESNET:
        return []
    convolutions = [match for name in names if (match := re.fullmatch(r"conv(\d)", name))]
    return [(match.group(), f"bn{match[1]}") for match in convolutions if f"bn{match[1]}" in names]
