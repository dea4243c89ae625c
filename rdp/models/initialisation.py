"""He initialisation, with an independent random stream for each parameter."""

import math
from collections.abc import Sequence
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


def mirrored(layer: Layer) -> Layer:
    """Mark a layer that reads [phi(z) ; phi(-z)], and return it.

    It starts as [W, -W] with W orthogonal and, in a convolution, at the kernel's centre. So it maps the two halves to
    W z at the start, because phi(z) - phi(-z) = z (arXiv 1702.08591).
    """
    vars(layer)["mirrored"] = True
    return layer


@torch.no_grad()
def initialise(network: nn.Module, seed: int, prefix: str = "") -> None:
    """Draw the weights of every linear and convolutional layer in place, and set their biases to 0.

    Weights are normal with variance 2 / fan-in (He initialisation, arXiv 1502.01852, section 2.2), or 1 / fan-in for a
    layer marked by `unrectified`. One marked by `mirrored` starts as described there. A parameter with an attribute
    ``initial_std`` (a transformer's positions) is normal with that standard deviation. A module with a method
    ``draw_start`` draws its own weights. Other parameters, such as the gains of norms, keep the values of their
    constructor. A draw depends on the seed and the parameter's name, with ``prefix`` and a dot in front of it for a
    part of a network.
    """
    for name, parameter in network.named_parameters(prefix=prefix):
        if (std := getattr(parameter, "initial_std", None)) is not None:
            parameter.copy_(_normal(seed, name, parameter.shape) * std)
    for name, module in network.named_modules(prefix=prefix):
        if draw_start := getattr(module, "draw_start", None):
            draw_start(rng.generator(seed, f"weights/{name}"))
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        weight = module.weight
        gain = 2.0 if getattr(module, "feeds_rectifier", True) else 1.0
        normal = _normal(seed, f"{name}.weight", weight.shape)
        if getattr(module, "mirrored", False):
            weight.copy_(_mirror(normal))
        else:
            weight.copy_(normal * math.sqrt(gain / weight[0].numel()))
        if module.bias is not None:
            module.bias.zero_()


def _normal(seed: int, name: str, shape: torch.Size) -> torch.Tensor:
    """Standard normal values for the parameter called ``name``, float32."""
    return torch.from_numpy(rng.generator(seed, f"weights/{name}").standard_normal(shape, dtype="float32"))


def _mirror(normal: torch.Tensor) -> torch.Tensor:
    """[W, -W] at the centre of a kernel that is otherwise 0, W made of normal values; shape (out, in, …), in even.

    The rows of W are orthonormal, or its columns if it has more rows.
    """
    half, sides = normal.shape[1] // 2, normal.shape[2:]
    matrix = normal.flatten(2)[..., sides.numel() // 2] if sides else normal
    matrix = matrix[:, :half].double()
    is_wide = len(matrix) <= half
    rows = (torch.linalg.qr(matrix.T).Q.T if is_wide else torch.linalg.qr(matrix).Q).to(normal.dtype)
    return centred(torch.cat([rows, -rows], 1), sides)


def centred(matrix: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Kernels with these sides that are 0 but at the centre, where they have a matrix; without sides, the matrix."""
    if not sides:
        return matrix
    rows, columns = sides[0] // 2, sides[1] // 2
    return nn.functional.pad(matrix[:, :, None, None], (columns, columns, rows, rows))
