"""Initial weights: He's, each parameter drawn from a stream of its own."""

import math

import torch
from torch import nn

from rdp.utils import rng


@torch.no_grad()
def initialise(network: nn.Module, seed: int) -> None:
    """Draw the weights of every linear and convolutional layer, and set their biases to 0.

    He initialisation (arXiv 1502.01852, section 2.2): normal, variance 2 / fan-in, for a layer whose output
    meets a rectifier; variance 1 / fan-in for one marked ``feeds_rectifier = False`` (the classifier). A
    parameter marked with an ``initial_std`` (a transformer's positions) is normal with that; a module with
    a ``draw_start`` (a coder) draws its own. Others (norm gains) keep the start their own module gave them.
    """
    for name, parameter in network.named_parameters():
        if (std := getattr(parameter, "initial_std", None)) is not None:
            draw = rng.generator(seed, f"weights/{name}").standard_normal(parameter.shape, dtype="float32")
            parameter.copy_(torch.from_numpy(draw) * std)
    for name, module in network.named_modules():
        if hasattr(module, "draw_start"):
            module.draw_start(rng.generator(seed, f"weights/{name}"))
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        weight = module.weight
        gain = 2.0 if getattr(module, "feeds_rectifier", True) else 1.0
        draw = rng.generator(seed, f"weights/{name}.weight").standard_normal(weight.shape, dtype="float32")
        weight.copy_(torch.from_numpy(draw) * math.sqrt(gain / weight[0].numel()))
        if module.bias is not None:
            module.bias.zero_()
