"""He initialisation, with an independent random stream for each parameter."""

import math
from typing import TypeVar

import torch
from torch import nn

from rdp.utils import rng

Layer = TypeVar("Layer", bound=nn.Module)


def unrectified(layer: Layer) -> Layer:
    """Mark a linear or convolutional layer whose output meets no rectifier, and return it.

    Its weights start with variance 1 / fan-in instead of 2 / fan-in.
    """
    vars(layer)["feeds_rectifier"] = False
    return layer


@torch.no_grad()
def initialise(network: nn.Module, seed: int) -> None:
    """Draw the weights of every linear and convolutional layer in place, and set their biases to 0.

    Weights are normal with variance 2 / fan-in (He initialisation, arXiv 1502.01852, section 2.2), or 1 / fan-in for a
    layer marked by `unrectified`. A parameter with an attribute ``initial_std`` (a transformer's positions) is normal
    with that standard deviation. A module with a method ``draw_start`` draws its own weights. Other parameters, such as
    the gains of norms, keep the values of their constructor. A draw depends on the seed and the parameter's name.
    """
    for name, parameter in network.named_parameters():
        if (std := getattr(parameter, "initial_std", None)) is not None:
            parameter.copy_(_normal(seed, name, parameter.shape) * std)
    for name, module in network.named_modules():
        if draw_start := getattr(module, "draw_start", None):
            draw_start(rng.generator(seed, f"weights/{name}"))
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        weight = module.weight
        gain = 2.0 if getattr(module, "feeds_rectifier", True) else 1.0
        weight.copy_(_normal(seed, f"{name}.weight", weight.shape) * math.sqrt(gain / weight[0].numel()))
        if module.bias is not None:
            module.bias.zero_()


def _normal(seed: int, name: str, shape: torch.Size) -> torch.Tensor:
    """Standard normal values for the parameter called ``name``, float32."""
    return torch.from_numpy(rng.generator(seed, f"weights/{name}").standard_normal(shape, dtype="float32"))
