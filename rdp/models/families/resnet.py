"""ResNets for small images (arXiv 1512.03385, section 4.2): 6n + 2 layers in three stages; residual, plain and PNNH.

Down-sampling shortcuts are the paper's option A: every second pixel, new channels zero. They have no parameters, so a
residual network and its plain form have the same layers, parameters and initial weights.
"""

from functools import partial
from itertools import pairwise

import torch
from torch import nn

from rdp.methods.options import PnnhOptions
from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.initialisation import unrectified
from rdp.models.paths import NetworkConfig, Parts, pnnh_stack, with_gain
from rdp.models.pnnh_width import stack_weights, width_of_share

INPUT = "image"
ARCHITECTURES = {
    "resnet20": {"blocks": 3, "widths": (16, 32, 64)},
    "resnet32": {"blocks": 5, "widths": (16, 32, 64)},
    "resnet44": {"blocks": 7, "widths": (16, 32, 64)},
    "resnet56": {"blocks": 9, "widths": (16, 32, 64)},
    "resnet110": {"blocks": 18, "widths": (16, 32, 64)},
    # Residual networks narrowed to the parameters of a PNNH one (window); their operations are within 4 % of its.
    "resnet20_same_parameters": {"blocks": 3, "widths": (12, 22, 46)},
    "resnet32_same_parameters": {"blocks": 5, "widths": (11, 24, 45)},
    "resnet44_same_parameters": {"blocks": 7, "widths": (12, 22, 46)},
    "resnet56_same_parameters": {"blocks": 9, "widths": (12, 21, 46)},
    "resnet110_same_parameters": {"blocks": 18, "widths": (12, 21, 46)},
    # Other widths, for accuracy against parameters.
    "resnet20w8": {"blocks": 3, "widths": (8, 16, 32)},
    "resnet20w12": {"blocks": 3, "widths": (12, 24, 48)},
    "resnet20w24": {"blocks": 3, "widths": (24, 48, 96)},
}


def _conv3x3(width_in: int, width_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)


_PARTS = Parts(linear=_conv3x3, pointwise=partial(nn.Conv2d, kernel_size=1, bias=False), norm=nn.BatchNorm2d)


class ConvNormRelu(nn.Sequential):
    """phi(norm(conv(x))): (batch, in, h, w) -> (batch, out, h / stride, w / stride)."""

    def __init__(self, width_in: int, width_out: int, stride: int = 1, norm_gain: float = 1.0) -> None:
        super().__init__()
        self.conv = _conv3x3(width_in, width_out, stride)
        self.norm = with_gain(nn.BatchNorm2d(width_out), norm_gain)
        self.relu = nn.ReLU(inplace=True)


class Branch(nn.Sequential):
    """The two layers of a basic block, up to the second normalisation."""

    def __init__(self, width_in: int, width_out: int, stride: int, norm_gain: float) -> None:
        super().__init__()
        self.conv1 = _conv3x3(width_in, width_out, stride)
        self.norm1 = nn.BatchNorm2d(width_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(width_out, width_out)
        self.norm2 = with_gain(nn.BatchNorm2d(width_out), norm_gain)


class Shortcut(nn.Module):
    """Every ``stride``-th pixel, with ``new_channels`` channels of 0 behind the others."""

    def __init__(self, stride: int, new_channels: int) -> None:
        super().__init__()
        self.stride, self.new_channels = stride, new_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def _block(config: NetworkConfig, width_in: int, width_out: int, stride: int = 1) -> nn.Module:
    """A basic block, phi(shortcut(x) + branch(x)), or its plain form, phi(branch(x))."""
    branch = Branch(width_in, width_out, stride, config.norm_gain)
    if config.path == "plain":
        return PlainBranch(branch, nn.ReLU())
    return GatedBranch(branch, nn.ReLU(), None if stride == 1 else Shortcut(stride, width_out - width_in))


def _stage(config: NetworkConfig, width_in: int, width_out: int, blocks: int, stride: int) -> nn.Module:
    """One stage of 2 * ``blocks`` layers, the first of which has the stride."""
    if config.path != "pnnh":
        later = (_block(config, width_out, width_out) for _ in range(blocks - 1))
        return nn.Sequential(_block(config, width_in, width_out, stride), *later)
    depth = 2 * blocks if stride == 1 else 2 * blocks - 1
    stack = pnnh_stack(width_out, depth, _PARTS, config.norm_gain, config.pnnh)
    # A coder maps a width onto itself, so the layer that changes the width is plain.
    return stack if stride == 1 else nn.Sequential(ConvNormRelu(width_in, width_out, stride, config.norm_gain), stack)


def _pnnh_widths(options: PnnhOptions, blocks: int, widths: tuple[int, ...]) -> list[int]:
    """The widths of the stages of a PNNH network; see `rdp.models.pnnh_width`."""
    found: list[int] = []
    for width_in, width in pairwise((0, *widths)):
        depth, changing = (2 * blocks - 1, 9 * width_in) if width_in else (2 * blocks, 0)
        changed = 9 * found[-1] if found else 0  # weights of the plain layer, for each channel that it writes

        def count(grown: int, changed: int = changed, depth: int = depth) -> int:
            return changed * grown + stack_weights(grown, depth, 9, options)

        found.append(width_of_share(width, changing * width + 9 * depth * width**2, count, options))
    return found


def build(config: NetworkConfig, *, blocks: int, widths: tuple[int, ...]) -> nn.Module:
    """A stem, one stage of ``blocks`` basic blocks per width (16, 32, 64 in the paper), pooling and a linear head.

    Every stage but the first halves the resolution.
    """
    own = _pnnh_widths(config.pnnh, blocks, widths) if config.path == "pnnh" else widths
    layers: list[nn.Module] = [ConvNormRelu(config.input_shape[0], own[0])]
    layers += [_stage(config, *pair, blocks, 2 if i else 1) for i, pair in enumerate(pairwise((own[0], *own)))]
    head = unrectified(nn.Linear(own[-1], config.classes))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
