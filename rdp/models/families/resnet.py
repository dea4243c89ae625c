"""ResNets for small images (arXiv 1512.03385, section 4.2): 6n + 2 layers in three stages, and their plain and
PNNH forms.

Down-sampling shortcuts are the paper's option A (every second pixel, new channels zero): they have no
parameters, so a residual network and its plain form have the same layers, parameters and initial weights.
"""

from functools import partial

import torch
from torch import nn

from rdp.methods.options import PnnhOptions
from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.paths import Parts, stack, with_gain

INPUT = "image"
ARCHITECTURES = {
    "resnet20": {"blocks": 3, "widths": (16, 32, 64)},
    "resnet32": {"blocks": 5, "widths": (16, 32, 64)},
    "resnet44": {"blocks": 7, "widths": (16, 32, 64)},
    "resnet56": {"blocks": 9, "widths": (16, 32, 64)},
    "resnet110": {"blocks": 18, "widths": (16, 32, 64)},
    # Residual networks to stand beside a PNNH one (concat): narrowed to its parameters, and to its operations.
    "resnet20_same_parameters": {"blocks": 3, "widths": (12, 24, 48)},
    "resnet32_same_parameters": {"blocks": 5, "widths": (12, 23, 47)},
    "resnet44_same_parameters": {"blocks": 7, "widths": (11, 24, 46)},
    "resnet56_same_parameters": {"blocks": 9, "widths": (12, 23, 46)},
    "resnet110_same_parameters": {"blocks": 18, "widths": (12, 22, 46)},
    "resnet32_same_flops": {"blocks": 5, "widths": (12, 24, 48)},
    "resnet44_same_flops": {"blocks": 7, "widths": (12, 24, 48)},
    "resnet56_same_flops": {"blocks": 9, "widths": (12, 24, 48)},
    "resnet110_same_flops": {"blocks": 18, "widths": (12, 24, 48)},
    # Widths for a frontier of accuracy and parameters.
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


class ResidualBlock(GatedBranch):
    """phi(shortcut(x) + branch(x))."""

    def __init__(self, width_in: int, width_out: int, stride: int, norm_gain: float) -> None:
        super().__init__(Branch(width_in, width_out, stride, norm_gain))
        self.stride = stride
        self.new_channels = width_out - width_in
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        if self.stride > 1:
            shortcut = shortcut[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        return self.relu(self.gate.add(shortcut, self.branch, x))


class PlainBlock(PlainBranch):
    """phi(branch(x)): the same layers without the shortcut."""

    def __init__(self, width_in: int, width_out: int, stride: int, norm_gain: float) -> None:
        super().__init__(Branch(width_in, width_out, stride, norm_gain))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.branch(x))


def _stage(
    width_in: int, width_out: int, blocks: int, path: str, path_options: dict[str, object], norm_gain: float
) -> nn.Module:
    """One stage of 2 * blocks layers; it halves the resolution where it changes the width."""
    stride = 1 if width_in == width_out else 2
    if path != "pnnh":
        block = ResidualBlock if path == "residual" else PlainBlock
        first = block(width_in, width_out, stride, norm_gain)
        return nn.Sequential(first, *(block(width_out, width_out, 1, norm_gain) for _ in range(blocks - 1)))
    options = PnnhOptions(**path_options)
    if stride == 1:
        return stack(width_out, 2 * blocks, _PARTS, norm_gain, options)
    # A coder maps a width onto itself, so the layer that changes it is a plain one.
    down = ConvNormRelu(width_in, width_out, stride, norm_gain)
    return nn.Sequential(down, stack(width_out, 2 * blocks - 1, _PARTS, norm_gain, options))


def build(
    blocks: int,
    widths: tuple[int, ...],
    *,
    path: str,
    path_options: dict[str, object],
    norm_gain: float,
    input_shape: tuple[int, ...],
    classes: int,
) -> nn.Module:
    """A stem, a stage of ``blocks`` basic blocks for each of ``widths`` (16, 32, 64 in the paper), pooling, head."""
    width_in = widths[0]
    layers: list[nn.Module] = [ConvNormRelu(input_shape[0], width_in)]
    for width in widths:
        layers.append(_stage(width_in, width, blocks, path, path_options, norm_gain))
        width_in = width
    head = nn.Linear(width_in, classes)
    head.feeds_rectifier = False
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
