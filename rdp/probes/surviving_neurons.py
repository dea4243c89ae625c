"""Surviving neurons (arXiv 2402.08645): what a rectifier lets through, by depth."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from rdp.probes import Subject

COLUMNS = ("layer", "name", "positive", "dead", "mean", "variance")


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """Survival at each ``nn.ReLU`` of a network, in the order of its forward pass.

    Normalisation uses the statistics of the examples, as in training: an untrained network has no running ones.
    Channels are dimension 1 of what a rectifier reads.

    Returns:
        One mapping a rectifier: ``layer``, its number from 1; ``positive``, the share of pre-activations above 0
        over examples, channels and places; ``dead``, the share of channels never above 0; ``mean`` and ``variance``
        of the pre-activations.
    """
    rows: list[dict[str, Any]] = []
    network = deepcopy(subject.network).train()  # a forward pass in training mode moves running statistics

    def watch(name: str) -> Any:
        def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            z = inputs[0].float()
            alive = z.transpose(0, 1).flatten(1) > 0
            rows.append(
                {
                    "layer": len(rows) + 1,
                    "name": name,
                    "positive": alive.float().mean().item(),
                    "dead": 1 - alive.any(1).float().mean().item(),
                    "mean": z.mean().item(),
                    "variance": z.var(correction=0).item(),
                }
            )

        return look

    for name, module in network.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(watch(name))
    network(subject.x)
    return rows
