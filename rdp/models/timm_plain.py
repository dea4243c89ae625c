"""The plain forms of timm's residual blocks: their layers in sequence, without the shortcut (arXiv 2402.08645)."""

import copy
from collections import OrderedDict
from typing import Any

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from timm.models.vision_transformer import Block
from torch import nn

from rdp.errors import UserError
from rdp.models.paths import with_gain

# Names of the children of each class of blocks: its layers in order, those that end a layer of the network, and the
# norms whose gain is that of the branch.
_LAYERS = {
    BasicBlock: ("conv1", "bn1", "act1", "conv2", "bn2", "act2"),
    Bottleneck: ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3"),
    Block: ("norm1", "attn", "ls1", "norm2", "mlp", "ls2"),
}
_ENDS = {BasicBlock: ("act2",), Bottleneck: ("act3",), Block: ("ls1", "ls2")}
_GAINS = {BasicBlock: ("bn2",), Bottleneck: ("bn3",), Block: ("norm1", "norm2")}
_MUST_BE_IDENTITY = ("aa", "se", "drop_block", "drop_path", "drop_path1", "drop_path2")


def set_gains(network: nn.Module, gain: float) -> None:
    """Set the gain of the norms that belong to the branches of residual blocks."""
    for block in network.modules():
        for name in _GAINS.get(type(block), ()):
            with_gain(block.get_submodule(name), gain)


class PlainSequence(nn.Sequential):
    """The layers of a residual block in sequence, without the shortcut.

    ``ends`` names the children that end a layer of the network, ``gains`` the norms whose gain is that of the branch.
    """

    def __init__(self, layers: dict[str, nn.Module], ends: tuple[str, ...], gains: tuple[str, ...]) -> None:
        super().__init__(OrderedDict(layers))
        self.ends, self.gains = ends, gains


class PlainBlock(PlainSequence):
    """The layers of a transformer's block; like it, it hands a mask to the attention."""

    def forward(self, input: torch.Tensor, **mask: Any) -> torch.Tensor:
        x = input
        for name in self._modules:
            layer = self.get_submodule(name)
            x = layer(x, **mask) if name == "attn" else layer(x)
        return x


def plain(block: nn.Module) -> PlainSequence:
    """The plain form of a block; raises `UserError` for a block that has none.

    A layer without parameters is copied, because a block may use one object in several places.
    """
    kind = type(block)
    if kind not in _LAYERS:
        raise UserError(f"{kind.__name__}: no plain form is known for this block")
    for name in _MUST_BE_IDENTITY:
        if not isinstance(getattr(block, name, None), nn.Identity | None):
            raise UserError(f"{kind.__name__}: its plain form does not support '{name}'")
    for name in _GAINS[kind]:
        if getattr(getattr(block, name), "weight", None) is None:
            raise UserError(f"{kind.__name__}: its plain form is known only with a gain in '{name}'")
    layers: dict[str, nn.Module] = {name: getattr(block, name) for name in _LAYERS[kind]}
    own = {name: layer if list(layer.parameters()) else copy.deepcopy(layer) for name, layer in layers.items()}
    return (PlainBlock if kind is Block else PlainSequence)(own, _ENDS[kind], _GAINS[kind])
