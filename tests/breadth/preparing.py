"""Models made fit to be compared: nothing in them is random, and every branch counts."""

import copy

import torch
from torch import nn


def enliven(model: nn.Module, seed: int = 0) -> None:
    """Make every branch count and nothing random: constant weights get noise, and dropout is off."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel() and (parameter == parameter.flatten()[0]).all():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            if parameter.is_floating_point() and parameter.dim() > 1 and parameter[0].numel() > 1:
                # transformers starts all weights at a deviation of 0.02, whatever their number
                scale = parameter[0].numel() ** -0.5 / parameter.std().item()
                parameter.mul_(max(scale, 1.0))
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        if isinstance(getattr(module, "drop_rate", None), float):  # of F.dropout, in models of timm
            module.drop_rate = 0.0


def without_droppath(model: nn.Module) -> nn.Module:
    """A copy whose droppath modules, of any library, are switched off."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if any(word in type(module).__name__.lower() for word in ("droppath", "drop_path", "stochasticdepth")):
            for rate in {"drop_prob", "p"} & vars(module).keys():
                setattr(module, rate, 0.0)
    return copied
