"""The loop of the documentation, which other people's trainers are compared with."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

import rdp
from rdp.methods import Method

Batches = Sequence[tuple[torch.Tensor, torch.Tensor]]


def train(
    network: nn.Module,
    method: Method,
    epochs: Sequence[Batches],
    optimizer: torch.optim.Optimizer,
    *,
    accumulate: int = 1,
    clip: float | None = None,
    divide_by_all: bool = True,
    after_step: Callable[[], object] = lambda: None,
) -> list[str]:
    """Train with gradients of ``accumulate`` mini-batches in a step, fewer at the end of an epoch; the kinds of steps.

    The loss is divided by ``accumulate``, also in a step of fewer mini-batches unless ``divide_by_all`` is False.
    """
    per_epoch = -(-len(epochs[0]) // accumulate)
    kinds, step = [], 0
    with rdp.Schedule(network, method, steps=per_epoch * len(epochs), steps_per_epoch=per_epoch) as schedule:
        schedule.attach(optimizer)
        for batches in epochs:
            for first in range(0, len(batches), accumulate):
                parts = batches[first : first + accumulate]
                for x, y in parts:
                    with schedule.iteration(step) as iteration:
                        logits = network(x)
                        loss = F.cross_entropy(getattr(logits, "logits", logits), y)  # Hugging Face's models name them
                        (loss / (accumulate if divide_by_all else len(parts))).backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(network.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                after_step()
                kinds.append(iteration.kind)
                step += 1
    return kinds


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have bitwise equal weights, by names."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def is_plain(network: nn.Module) -> bool:
    """Whether a network has no gated block, hook or frozen parameter."""
    return (
        not any(type(module).__name__.startswith("Gated") for module in network.modules())
        and not any(module._forward_pre_hooks for module in network.modules())
        and all(parameter.requires_grad for parameter in network.parameters())
    )
