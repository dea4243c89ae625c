"""Which norms may be folded into the layers before them, and undoing changes of a network that change its outputs."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.utils import _pytree as pytree

from rdp.errors import UserError
from rdp.models.recording import record_calls, run
from rdp.models.weights import unwrap

Linear = nn.Linear | nn.Conv2d
Norm = nn.BatchNorm1d | nn.BatchNorm2d
# What they compute is known. A subclass, such as one with a parametrization, may compute something else.
LINEARS: set[type[nn.Module]] = {nn.Linear, nn.Conv2d}
NORMS: set[type[nn.Module]] = {nn.BatchNorm1d, nn.BatchNorm2d}
_RESNET = (ResNet.forward, ResNet.forward_features)
_BLOCKS = {BasicBlock.forward, Bottleneck.forward}
_TF32 = 2**-10  # machine epsilon

# A module, and a function that replaces children of it.
Change = tuple[nn.Module, Callable[[], None]]


def is_known(module: nn.Module, kinds: set[type[nn.Module]]) -> bool:
    """Whether a module is of one of these classes, without hooks or a ``forward`` of its own."""
    is_changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) in kinds and not is_changed


def fuse_norm(linear: nn.Module, norm: Norm) -> Linear:
    """A layer fused with the normalisation after it."""
    if isinstance(linear, nn.Conv2d):
        return fuse_conv_bn_eval(linear, norm)
    assert isinstance(linear, nn.Linear)
    return fuse_linear_bn_eval(linear, norm)


def norm_folds(network: nn.Module, example: Any = None) -> Iterator[Change]:
    """The folds of BatchNorms into the layers before them: one for each module with such children.

    Without an example, these are children that no module of unknown code contains, because it may call or read one of
    them by itself. With an example, these are children that run on it; whether others read them, `apply` finds.
    """
    if example is None:
        unknown = [module for module in network.modules() if not _is_known_code(module)]
        excluded = {id(m) for module in unknown for child in module.children() for m in child.modules()}
    else:
        twin = copy.deepcopy(network)
        called = record_calls(twin, _cloned(example))
        pairs = zip(network.modules(), twin.modules(), strict=True)
        excluded = {id(module) for module, copied in pairs if id(copied) not in called}
    for module in network.modules():
        pairs_here = [
            (linear, norm)
            for linear, norm in _consecutive(module)
            if not {id(getattr(module, linear)), id(getattr(module, norm))} & excluded
        ]
        if pairs_here:
            yield module, partial(_fold, module, pairs_here)


def _fold(module: nn.Module, pairs: list[tuple[str, str]]) -> None:
    """Fuse each norm with the layer before it, and replace it by an identity."""
    for linear_name, norm_name in pairs:
        linear, norm = getattr(module, linear_name), getattr(module, norm_name)
        if is_known(linear, LINEARS) and is_known(norm, NORMS) and norm.running_mean is not None:
            setattr(module, linear_name, fuse_norm(linear, norm))
            setattr(module, norm_name, nn.Identity())


def _is_known_code(module: nn.Module) -> bool:
    """Whether a module calls its children as wholes, and reads none of their parts."""
    if unwrap(module) is not module:
        return True
    kind = type(module)
    is_known_class = kind.__module__.startswith("rdp.") or kind.forward is nn.Sequential.forward
    return "forward" not in vars(module) and (is_known_class or _is_resnet(kind) or kind.forward in _BLOCKS)


def _is_resnet(kind: type[nn.Module]) -> bool:
    return (kind.forward, getattr(kind, "forward_features", None)) == _RESNET


def _consecutive(module: nn.Module) -> list[tuple[str, str]]:
    """The names of children that run one after the other: those of a sequence, and convN, bnN of a ResNet.

    A BatchNorm1d fits the linear layer before it only for inputs of two dimensions, as in this project's networks.
    """
    kind, names = type(module), list(module._modules)  # named_children() leaves out the repetitions of a module
    if "forward" in vars(module):
        return []
    if kind.forward is nn.Sequential.forward:
        own = kind.__module__.startswith("rdp.")
        return [pair for pair in pairwise(names) if own or not isinstance(getattr(module, pair[0]), nn.Linear)]
    # In these forward passes bn1 follows conv1, and so on.
    if kind.forward not in _BLOCKS and not _is_resnet(kind):
        return []
    convolutions = [match for name in names if (match := re.fullmatch(r"conv(\d)", name))]
    return [(match.group(), f"bn{match[1]}") for match in convolutions if f"bn{match[1]}" in names]


def apply(changes: Sequence[Change], network: nn.Module, example: Any, expected: list[torch.Tensor]) -> None:
    """Make changes of a network in evaluation mode, and undo those after which ``example`` has other outputs.

    All are made at once, and one by one if the outputs differ then. Without an example, none is undone.
    """
    before = [dict(module._modules) for module, _ in changes]
    for _, change in changes:
        change()
    if example is None or not changes or _has_outputs(network, example, expected):
        return
    for (module, _), children in zip(changes, before, strict=True):
        module._modules.update(children)
    for module, change in changes:
        children = dict(module._modules)
        change()
        if not _has_outputs(network, example, expected):
            module._modules.update(children)


def outputs(network: nn.Module, example: Any) -> list[torch.Tensor]:
    """The tensors in a network's output; raises `UserError` if there is none.

    A copy of the network reads a copy of the example: a forward pass may change both.
    """
    output = run(copy.deepcopy(network), _cloned(example))
    leaves = pytree.tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    if tensors := [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]:
        return tensors
    raise UserError(f"{type(network).__name__}: the output on the example has no tensor to compare")


def _cloned(example: Any) -> Any:
    plain = dict(example) if isinstance(example, Mapping) else example
    return pytree.tree_map(lambda value: value.clone() if isinstance(value, torch.Tensor) else value, plain)


def _has_outputs(network: nn.Module, example: Any, expected: list[torch.Tensor]) -> bool:
    try:
        found = outputs(network, example)
    except Exception:  # the network reads an attribute of a layer that is gone, such as the norm's weight
        return False
    coarsest = max((_eps(p) for p in network.parameters() if p.is_floating_point()), default=0.0)
    return len(found) == len(expected) and all(_is_close(*pair, coarsest) for pair in zip(found, expected, strict=True))


def _eps(tensor: torch.Tensor) -> float:
    """The machine epsilon; on a GPU that of TF32, in which torch convolves single precision by default."""
    return _TF32 if tensor.is_cuda and tensor.dtype == torch.float32 else torch.finfo(tensor.dtype).eps


def _is_close(found: torch.Tensor, expected: torch.Tensor, eps: float) -> bool:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    if not expected.is_floating_point():
        return torch.equal(found, expected)
    # The square root of the machine epsilon, 3e-4 in single precision, relative to the largest output. It is as far
    # from the rounding of one operation as from an error as large as the outputs: in single precision rounding may add
    # up over a thousand layers, and a norm that is lost or applied twice changes outputs by tenths.
    tolerance = max(eps, _eps(expected)) ** 0.5
    largest = expected[expected.isfinite()].abs().max().item() if expected.isfinite().any() else 0.0
    return torch.allclose(found, expected, rtol=0, atol=tolerance * largest, equal_nan=True)
