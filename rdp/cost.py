"""What a network costs: parameters and floating-point operations, counted."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def forward_flops(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Floating-point operations of one example's forward pass, a multiply-add counted as two.

    Matrix products and convolutions are counted, as torch counts them; normalisation, activations and the
    matrix exponential of a coder are not. Two examples are counted and halved: what is shared by a mini-batch
    and small (a coder) does not enter.
    """
    was_training = network.training
    device = next(network.parameters()).device
    counter = FlopCounterMode(display=False)
    with counter:
        network.eval()(torch.zeros(2, *input_shape, device=device))
    network.train(was_training)
    return counter.get_total_flops() // 2
