"""Surviving neurons (arXiv 2402.08645): what a rectifier lets through, by depth."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from rdp.probes import Subject
from rdp.probes.sources import sources

COLUMNS = ("source", "layer", "name", "positive", "dead", "mean", "variance", "bound")


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """Survival at each ``nn.ReLU`` and ``nn.GELU`` of a network, in the order of its forward pass.

    GELU cuts nothing off; the share of its pre-activations above 0 is counted as a rectifier's is. Normalisation uses
    the statistics of the examples, as in training: an untrained network has no running ones. Channels are dimension 1
    of what a rectifier reads, the last one of tokens.

    Returns:
        One mapping a rectifier and source: ``source``, ``data`` or ``noise``, see `rdp.probes.sources`; ``layer``,
        its number from 1; ``name``; ``positive``, the share of pre-activations above 0 over examples, channels and
        places; ``dead``, the share of channels never above 0; ``mean`` and ``variance`` of the pre-activations;
        ``bound``, Cantelli's on the share from these two: mean^2 / (mean^2 + variance) for a positive mean, else 0.
        ``positive`` is never below it but by a rounding error.
    """
    return [
        {"source": source} | row for source, x in sources(subject.x).items() for row in _survival(subject.network, x)
    ]


def _survival(network: nn.Module, x: torch.Tensor) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    network = deepcopy(network).train()  # a forward pass in training mode moves running statistics

    def watch(name: str) -> Any:
        def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows.append({"layer": len(rows) + 1, "name": name} | _of(inputs[0]))

        return look

    for name, module in network.named_modules():
        if isinstance(module, nn.ReLU | nn.GELU):
            module.register_forward_pre_hook(watch(name))
    network(x)
    return rows


def _of(z: torch.Tensor) -> dict[str, float]:
    """Survival of pre-activations of shape (n, channels), (n, channels, height, width) or (n, tokens, channels)."""
    z = z.movedim(-1 if z.dim() == 3 else 1, 0).flatten(1)
    alive = (z > 0).sum(1)  # of each channel
    exact = z.double()
    mean, variance = exact.mean().item(), exact.var(correction=0).item()
    return {
        "positive": int(alive.sum()) / z.numel(),
        "dead": int((alive == 0).sum()) / len(alive),
        "mean": mean,
        "variance": variance,
        "bound": mean**2 / (mean**2 + variance) if mean > 0 else 0.0,
    }
