"""Surviving neurons (arXiv 2402.08645): pre-activations above 0 and dead channels of each rectifier."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rdp.probes import Subject
from rdp.probes.channels import channel_axes
from rdp.probes.layers import data_and_noise, evaluation_copy

MEASURES = "every nn.ReLU, nn.GELU, nn.SiLU and the like, or the inputs of the modules that layers=[...] names"
# By name, because timm has classes of its own.
_RECTIFIERS = frozenset(
    (
        *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "StarReLU", "ELU", "GELU", "GELUTanh", "QuickGELU"),
        *("SiLU", "Swish", "SwishMe", "Mish", "Hardswish", "HardSwish", "HardSwishMe"),
    )
)
COLUMNS = ("source", "layer", "name", "positive", "dead", "mean", "variance", "bound")


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """Survival at each ``nn.ReLU``, ``nn.GELU`` and similar activation, in the order of the forward pass.

    GELU is not zero below 0; its pre-activations are counted as a rectifier's. Normalisation uses the statistics of
    the examples, as in training, because an untrained network has no running statistics. The channels of a rectifier's
    input are those of the layer that writes it, see `rdp.probes.channels`.

    Returns:
        One row per rectifier and source:

        ``source``            ``data`` or ``noise``, see `data_and_noise`.
        ``layer``, ``name``   number of the rectifier from 1, and name of the module.
        ``positive``          share of pre-activations above 0, over examples, channels and positions.
        ``dead``              share of channels that are never above 0.
        ``mean``, ``variance``  of the pre-activations.
        ``bound``             Cantelli's lower bound of ``positive``: mean^2 / (mean^2 + variance) for a positive mean,
                              else 0.
    """
    return [
        {"source": source} | row for source, x in data_and_noise(subject.x).items() for row in _survival(subject, x)
    ]


def _survival(subject: Subject, x: torch.Tensor) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def attach(network: nn.Module, see: Callable[[torch.Tensor, str], None]) -> None:
        for name, module in network.named_modules():
            if name in subject.layers if subject.layers is not None else type(module).__name__ in _RECTIFIERS:
                module.register_forward_pre_hook(lambda module, inputs, name=name: see(inputs[0], name))

    def measure_input(z: torch.Tensor, name: str) -> None:
        rows.append({"layer": len(rows) + 1, "name": name} | _statistics(z, axes[len(rows)]))

    axes = channel_axes(subject.network, x, attach)
    network = evaluation_copy(subject.network, batch_statistics=True)
    attach(network, measure_input)
    network(x)
    return rows


def _statistics(z: torch.Tensor, channel_dim: int) -> dict[str, float]:
    """Survival statistics of pre-activations of shape (n, …)."""
    z = z.movedim(channel_dim, 0).flatten(1)
    alive = (z > 0).sum(1)  # per channel
    double = z.double()
    mean, variance = double.mean().item(), double.var(correction=0).item()
    return {
        "positive": int(alive.sum()) / z.numel(),
        "dead": int((alive == 0).sum()) / len(alive),
        "mean": mean,
        "variance": variance,
        "bound": mean**2 / (mean**2 + variance) if mean > 0 else 0.0,
    }
