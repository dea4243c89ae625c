"""The axis of a tensor's channels, which follows from the layer that writes it and not from the number of axes."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from rdp.probes.layers import evaluation_copy

_EXAMPLES = 4  # for batch statistics of networks that end in one position
_RECENT = 3  # a module with weights of its own may end after the layer inside it that writes its output
_CHECKPOINTING = {"grad_checkpointing", "gradient_checkpointing"}  # as timm and others call it

# Makes a network call a function with tensors of its forward pass, and whatever else it gets.
Attach = Callable[[nn.Module, Callable[..., None]], None]


@torch.enable_grad()
def channel_axes(network: nn.Module, x: torch.Tensor, attach: Attach) -> list[int]:
    """The axis of the channels of each tensor that ``attach`` makes the network show, in their order.

    It is the axis of which one index depends on one output channel of the last layer with weights that ran, whatever
    was permuted or reshaped since. A few of the examples ``x`` suffice, in a copy of the network. Where nothing tells
    (attention in torch's own module, or no weights so far), it is the last axis of tokens and 1 of images.
    """
    network = evaluation_copy(network, batch_statistics=True)
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    axes: list[int] = []
    ran: deque[nn.Module] = deque(maxlen=_RECENT)

    def remember(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        ran.appendleft(module)

    for module in network.modules():
        vars(module).update(dict.fromkeys(_CHECKPOINTING & vars(module).keys(), False))  # it runs layers twice
        if list(module.parameters(recurse=False)):
            module.register_forward_hook(remember)
    attach(network, lambda z, *_: axes.append(_axis(z, ran)))
    network(x[:_EXAMPLES])
    return axes


def _axis(z: torch.Tensor, ran: Iterable[nn.Module]) -> int:
    """The axis of the channels of z; ``ran`` are the last layers with weights that ran, the last one first."""
    if z.dim() == 2:
        return 1
    for layer in ran if z.requires_grad else ():
        # The first axis of a layer's bias, and mostly of its weight, has one entry for each output channel. That of an
        # embedding has one for each token.
        own = dict(layer.named_parameters(recurse=False))
        parameter = own.get("bias", next(iter(own.values())))
        of = -1 if isinstance(layer, nn.Embedding) else 0
        found = [axis for axis in range(1, z.dim()) if _is_of_one_channel(z, axis, parameter, of)]
        if len(found) == 1:
            return found[0]
    return z.dim() - 1 if z.dim() == 3 or isinstance(next(iter(ran), None), nn.Linear) else 1


def _is_of_one_channel(z: torch.Tensor, axis: int, parameter: nn.Parameter, of: int) -> bool:
    """Whether the first index of an axis depends on one entry of the axis ``of`` of a parameter."""
    weighted = z * torch.arange(z.numel(), device=z.device).cos().view_as(z)  # a norm's outputs may sum to 0
    first = weighted.select(axis, 0).sum()
    (gradient,) = torch.autograd.grad(first, parameter, retain_graph=True, allow_unused=True)
    if gradient is None:
        return False
    entries = gradient.movedim(of, 0)
    return int(entries.reshape(len(entries), -1).any(1).sum()) == 1
