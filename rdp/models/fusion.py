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
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from rdp.errors import UserError
from rdp.models.coder import Code, as_matrix, channel_axis
from rdp.models.folding import LINEARS, NORMS, Change, Linear, Norm, apply, fuse_norm, is_known, norm_folds, outputs
from rdp.models.initialisation import centred
from rdp.models.paths import Learner, PnnhLayer, PnnhStack
from rdp.models.timm_transformer import TransformerStack

_LAYERS = {PnnhLayer, Learner, nn.Sequential, nn.ReLU, nn.Identity, *LINEARS, *NORMS}


@torch.no_grad()
def fuse(model: nn.Module, *, growth: float = 1.0, example: Any = None) -> nn.Module:
    """A copy of a network for inference, with the same outputs up to rounding and fewer operations.

    Batch norms are fused in sequences of convolutions, in timm's ResNets and in this project's layers. PNNH coders
    (arXiv 2402.08645) are fused with their learners. Everything else is copied; so are layers and norms of another
    class than torch's own, and those with hooks or parametrizations.

    A fold is wrong where other code calls or reads one layer of a sequence by itself, which a network does not tell.
    So without an example, norms are fused only where all modules around them are sequences, timm's ResNets or this
    project's own, and not below a class that you wrote. PNNH stacks are taken as wholes. With an example, norms are
    fused in all sequences and ResNets that run on it, and the outputs on it are compared in evaluation mode. A fold
    that changes one by more than the square root of the machine epsilon, relative to the largest (3e-4 in single
    precision, 3e-2 in TF32), is undone. Other inputs are not compared: the network must use its layers for them in
    the same way. In both cases, single layers of the copy have other outputs than those of the model.

    Args:
        model: any network; it stays unchanged.
        growth: allowed factor on the operations of a learner and its coder when one product replaces two. 1 fuses
            where it is free; 2 fuses every learner of one or two 3 x 3 layers.
        example: an input of the model: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.

    Returns:
        The copy, in evaluation mode, its parameters without gradients. It cannot be trained.

    Raises:
        UserError: a model that cannot be copied, has lazy layers without weights, or returns no tensor on the example.

    >>> import rdp, torch
    >>> model = rdp.create_model("resnet20", path="pnnh", input_shape=(1, 8, 8)).eval()
    >>> x = torch.randn(4, 1, 8, 8)
    >>> fast = rdp.fuse(model)
    >>> bool(torch.allclose(fast(x), model(x), atol=1e-5))
    True
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise UserError(
                f"{type(model).__name__}: the lazy '{name}' has no shape yet; call the model on an input first"
            )
    try:
        copied = copy.deepcopy(model)
    except RuntimeError as error:  # of torch.nn.utils.prune and the like, until their changes are made permanent
        raise UserError(f"{type(model).__name__}: it cannot be copied: {error}") from None
    copied.eval().requires_grad_(False)
    expected = [] if example is None else outputs(copied, example)
    holder = _Holder(copied)
    apply(list(_stack_changes(holder, growth)), holder, example, expected)
    apply(list(norm_folds(holder, example)), holder, example, expected)
    return holder.model


class _Holder(nn.Module):
    """A parent of the outermost module, which may be replaced too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


class FusedConcat(nn.Module):
    """[C x ; phi(L x)] as one product with the weights [C ; L]; C writes the first ``coded`` channels."""

    def __init__(self, linear: Linear, coded: int, activation: nn.Module) -> None:
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


def _stack_changes(module: nn.Module, growth: float) -> Iterator[Change]:
    """The replacements of all stacks in a module by layers with constant coders."""
    for name, child in module.named_children():
        if isinstance(child, PnnhStack) and is_known(child, {PnnhStack, TransformerStack}):
            yield module, partial(_replace_stack, module, name, growth)
        else:
            yield from _stack_changes(child, growth)


def _replace_stack(parent: nn.Module, name: str, growth: float) -> None:
    stack = copy.deepcopy(getattr(parent, name))  # the former one stays as it is, for undoing the change
    layers = [layer for layer in stack.layers if isinstance(layer, PnnhLayer)]
    fused = [_fuse_layer(layer, code, growth) for layer, code in zip(layers, stack.codes(), strict=True)]
    if isinstance(stack, TransformerStack):  # which timm also calls block by block
        stack.layers, stack.coders = nn.ModuleList(fused), nn.ModuleList()
        setattr(parent, name, stack)
    else:
        setattr(parent, name, nn.Sequential(stack.entry, *fused, stack.exit))


def _fuse_layer(layer: PnnhLayer, code: Code | None, growth: float) -> nn.Module:
    """A PNNH layer without its norm, and as one product if the growth allows it."""
    variant, norm = layer.variant, layer.norm
    if not all(is_known(module, _LAYERS) for module in layer.modules()):
        return FusedLayer(layer, code)
    if variant == "strict":
        return _fuse_strict(layer, code)
    if isinstance(norm, Norm):
        if variant == "sum_inner":  # the norm acts on the sum, so it scales coder and learner
            assert norm.running_var is not None
            assert isinstance(code, torch.Tensor)
            code = code * (norm.weight * (norm.running_var + norm.eps).rsqrt())[:, None]
        if isinstance(layer.learner, nn.Sequential):
            layer.learner[-1] = fuse_norm(layer.learner[-1], norm)
        else:
            layer.learner = fuse_norm(layer.learner, norm)
        layer.norm = nn.Identity()
    learner = _single_linear(layer.learner)
    if learner is None or code is None or variant == "sum" or not isinstance(layer.norm, nn.Identity):
        return FusedLayer(layer, code)
    matrix = as_matrix(code, layer.split.width).to(learner.weight)
    multiplied = isinstance(code, torch.Tensor) and code.is_floating_point()
    product = _stack_rows(matrix, learner) if variant in {"concat", "window"} else _add(learner, matrix)
    separate = sum(m.weight.numel() for m in layer.learner.modules() if isinstance(m, Linear))
    if product.weight.numel() > growth * (separate + multiplied * matrix.numel()):
        return FusedLayer(layer, code)
    if variant in {"concat", "window"}:
        return FusedConcat(product, layer.split.coded, layer.activation)
    return nn.Sequential(product, _in_place(layer.activation))


def _fuse_strict(layer: PnnhLayer, code: Code | None) -> nn.Module:
    """A ``strict`` layer, whose norm acts on the outputs of coder and learner, without its norm."""
    assert isinstance(code, torch.Tensor)
    learner, norm, coded = layer.learner, layer.norm, layer.split.coded
    if isinstance(learner, Linear):
        product = _stack_rows(code, learner)
        return nn.Sequential(fuse_norm(product, norm) if isinstance(norm, Norm) else product, layer.activation)
    assert isinstance(learner, nn.Sequential)
    assert isinstance(norm, nn.BatchNorm2d)
    coder = nn.Conv2d(layer.split.width, coded, 1, bias=False).to(code).eval()
    coder.weight.copy_(centred(code, (1, 1)))
    first = fuse_norm(coder, _channels_of(norm, slice(coded)))
    learner[-1] = fuse_norm(learner[-1], _channels_of(norm, slice(coded, None)))
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


def _single_linear(learner: nn.Module) -> Linear | None:
    """A learner of one linear layer, or of a narrowing and a widening one, as one layer; None for any other."""
    if isinstance(learner, Linear):
        return learner
    if not isinstance(learner, nn.Sequential) or len(learner) != 2:
        return None
    narrow, widen = learner  # the second is pointwise, and the first has no bias
    if not (isinstance(narrow, Linear) and isinstance(widen, Linear)):
        return None
    weight = (widen.weight.flatten(1) @ narrow.weight.flatten(1)).reshape(-1, *narrow.weight.shape[1:])
    return _with_weights(narrow, weight, widen.bias)


def _embedded(code: torch.Tensor, linear: Linear) -> torch.Tensor:
    """C as weights of a layer: a matrix is the centre of a kernel that is otherwise 0."""
    return code if code.dim() == linear.weight.dim() else centred(code, linear.weight.shape[2:])


def _stack_rows(code: torch.Tensor, linear: Linear) -> Linear:
    """[C ; L] as one layer."""
    weight = torch.cat([_embedded(code, linear), linear.weight])
    bias = torch.zeros(len(linear.weight)).to(weight) if linear.bias is None else linear.bias
    return _with_weights(linear, weight, torch.cat([torch.zeros(len(code)).to(weight), bias]))


def _add(linear: Linear, code: torch.Tensor) -> Linear:
    """L + C as one layer."""
    return _with_weights(linear, linear.weight + _embedded(code, linear), linear.bias)


def _with_weights(linear: Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """A copy of a layer with other weights."""
    layer = copy.deepcopy(linear)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
    setattr(layer, "out_channels" if isinstance(layer, nn.Conv2d) else "out_features", len(weight))
    return layer


def _in_place(activation: nn.Module) -> nn.Module:
    return nn.ReLU(inplace=True) if isinstance(activation, nn.ReLU) else activation
