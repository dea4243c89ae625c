"""Surviving neurons (arXiv 2402.08645): what a rectifier lets through, by depth."""

from typing import Any

import torch
from torch import nn

from rdp.probes import Subject
from rdp.probes.layers import copied
from rdp.probes.sources import sources

MEASURES = "every nn.ReLU, nn.GELU, nn.SiLU and their kin, or the inputs of the modules that layers=[...] names"
# By name, since timm has its own of some.
_RECTIFIERS = frozenset(
    (
        *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "StarReLU", "ELU", "GELU", "GELUTanh", "QuickGELU"),
        *("SiLU", "Swish", "SwishMe", "Mish", "Hardswish", "HardSwish", "HardSwishMe"),
    )
)
COLUMNS = ("source", "layer", "name", "positive", "dead", "mean", "variance", "bound")


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """Survival at each ``nn.ReLU``, ``nn.GELU`` and their kin in a network, in the order of its forward pass.

    GELU cuts nothing off; the share of its pre-activations above 0 is counted as a rectifier's is. Normalisation uses
    the statistics of the examples, as in training: an untrained network has no running ones. Channels are dimension 1
    of what a rectifier reads, the last one of tokens and behind an ``nn.Linear``.

    Returns:
        One mapping a rectifier and source: ``source``, ``data`` or ``noise``, see `rdp.probes.sources`; ``layer``,
        its number from 1; ``name``; ``positive``, the share of pre-activations above 0 over examples, channels and
        places; ``dead``, the share of channels never above 0; ``mean`` and ``variance`` of the pre-activations;
        ``bound``, Cantelli's on the share from these two: mean^2 / (mean^2 + variance) for a positive mean, else 0.
        ``positive`` is never below it but by a rounding error.
    """
    return [{"source": source} | row for source, x in sources(subject.x).items() for row in _survival(subject, x)]


def _survival(subject: Subject, x: torch.Tensor) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    network = copied(subject.network, batch_statistics=True)
    writer: list[nn.Module] = []  # the last layer with weights that ran

    def watch(name: str) -> Any:
        def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            channels_last = inputs[0].dim() == 3 or (writer and isinstance(writer[0], nn.Linear))
            rows.append({"layer": len(rows) + 1, "name": name} | _of(inputs[0], -1 if channels_last else 1))

        return look

    def ran(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        writer[:] = [module]

    for name, module in network.named_modules():
        if name in subject.layers if subject.layers is not None else type(module).__name__ in _RECTIFIERS:
            module.register_forward_pre_hook(watch(name))
        elif list(module.parameters(recurse=False)):
            module.register_forward_hook(ran)
    network(x)
    return rows


def _of(z: torch.Tensor, channels: int) -> dict[str, float]:
    """Survival of pre-activations of shape (n, …), one of whose dimensions is that of the channels."""
    z = z.movedim(channels, 0).flatten(1)
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
