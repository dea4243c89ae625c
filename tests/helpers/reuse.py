"""What the tests of feature reuse share: a network that has seen examples, and what is told of one."""

import torch
from torch import nn


def warmed_up(network: nn.Module, x: torch.Tensor) -> nn.Module:
    """With running statistics that are not those of ``x``, in evaluation mode."""
    with torch.no_grad():
        for scale in (0.7, 1.5, 1.1):
            network.train()(scale * x + 0.2)
    return network.eval()


def values(rows: list[dict], quantity: str) -> dict[tuple[int, int], float]:
    return {(row["layer"], row["other"]): row["value"] for row in rows if row["quantity"] == quantity}
