"""Small models of other people, and what they are with branches cut out, written down by hand.

The hand-written blocks know nothing of gates: they are what the gated ones are compared with.
"""

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torchvision
from timm.models import _efficientnet_blocks, convnext, mlp_mixer, resnet, swin_transformer, vision_transformer
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn
from torch.nn import functional as F

CLASSES = 5


class CutBlock:
    """Comes before a block's class: each branch times a factor, and cut out where that is 0."""

    branches = 1
    factors: tuple[float, ...]


class CutPair(CutBlock):
    """A pre-norm block of two branches."""

    branches = 2

    def add(self, i: int, x: torch.Tensor, branch: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return x + branch(x) * self.factors[i] if self.factors[i] else x


class CutViT(CutPair, vision_transformer.Block):
    def forward(self, x):
        x = self.add(0, x, lambda x: self.ls1(self.attn(self.norm1(x))))
        return self.add(1, x, lambda x: self.ls2(self.mlp(self.norm2(x))))


class CutSwin(CutPair, swin_transformer.SwinTransformerBlock):
    def forward(self, x):
        shape = x.shape
        x = self.add(0, x, lambda x: self._attn(self.norm1(x))).flatten(1, 2)
        return self.add(1, x, lambda x: self.mlp(self.norm2(x))).view(shape)


class CutMixer(CutPair, mlp_mixer.MixerBlock):
    def forward(self, x):
        x = self.add(0, x, lambda x: self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2))
        return self.add(1, x, lambda x: self.mlp_channels(self.norm2(x)))


class CutBasic(CutBlock, resnet.BasicBlock):
    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        if not self.factors[0]:
            return F.relu(shortcut)
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) * self.factors[0] + shortcut)


class CutBottleneck(CutBlock, resnet.Bottleneck):
    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        if not self.factors[0]:
            return F.relu(shortcut)
        inner = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(inner)) * self.factors[0] + shortcut)


class CutTorchvision(CutBlock, torchvision.models.resnet.BasicBlock):
    forward = CutBasic.forward


class CutConvNeXt(CutBlock, convnext.ConvNeXtBlock):
    def forward(self, x):
        if not self.factors[0]:
            return self.shortcut(x)
        inner = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return inner.mul(self.gamma.reshape(1, -1, 1, 1)) * self.factors[0] + self.shortcut(x)


class CutInverted(CutBlock, _efficientnet_blocks.InvertedResidual):
    def forward(self, x):
        if not self.factors[0]:
            return x
        inner = self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))
        return self.bn3(self.conv_pwl(self.se(inner))) * self.factors[0] + x


class Gain(nn.Module):
    """A user's own layer without a name that anybody knows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.gain


class UserBlock(nn.Module):
    """A user's own block, which ends in no droppath: relu(x + gain(linear(norm(x)))), the sum overwritten."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear, self.last = nn.LayerNorm(width), nn.Linear(width, width), Gain(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.last(self.linear(self.norm(x))))


class CutUser(CutBlock, UserBlock):
    def forward(self, x):
        if not self.factors[0]:
            return F.relu(x)
        return F.relu(x + self.last(self.linear(self.norm(x))) * self.factors[0])


def _efficientnet(**options) -> nn.Module:
    stages = decode_arch_def([["ds_r1_k3_s1_e1_c8_se0.25"], ["ir_r3_k3_s2_e2_c8_se0.25"], ["ir_r2_k3_s2_e2_c16"]])
    return EfficientNet(stages, CLASSES, 16, stem_size=4, round_chs_fn=lambda c: c, **{"act_layer": nn.ReLU, **options})


def _torchvision() -> nn.Module:
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    network.layer3, network.layer4, network.fc = nn.Identity(), nn.Identity(), nn.Linear(128, CLASSES)
    return network


def _user() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), UserBlock(16), UserBlock(16), nn.Linear(16, CLASSES))


@dataclass(frozen=True)
class Tiny:
    """A small model.

    Attributes:
        make: builds it; ``drop_path_rate`` is an option where the model has droppath of its own.
        side: pixels of a side of its square images.
        cut: the block that stands for it with branches cut out.
        units: the names of its units.
        owners: regular expressions of parameters' names that belong to units, and the units' names from them.
    """

    make: Callable[..., nn.Module]
    side: int
    cut: type[CutBlock]
    units: tuple[str, ...]
    owners: dict[str, str]

    def build(self, seed: int = 0, **options) -> nn.Module:
        """The model with weights such that every branch counts (some are born as zeros)."""
        torch.manual_seed(seed)
        network = self.make(**options)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
            for name, buffer in network.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(std=0.1)
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5)
        return network

    def batch(self, size: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(size, 3, self.side, self.side, generator=generator)
        return x, torch.randint(0, CLASSES, (size,), generator=generator)

    def owner(self, parameter: str) -> str | None:
        """The unit that a parameter belongs to, or None where it belongs to the rest."""
        for pattern, unit in self.owners.items():
            if found := re.match(pattern, parameter):
                return found.expand(unit)
        return None

    def by_hand(self, network: nn.Module) -> nn.Module:
        """A copy whose blocks are the hand-written ones."""
        copied = copy.deepcopy(network)
        for block in self.blocks(copied):
            block.__class__ = self.cut
        set_factors(copied, [1.0] * len(self.units))
        return copied

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """The blocks with residual branches."""
        (kind,) = (base for base in self.cut.__bases__ if issubclass(base, nn.Module))
        return [m for m in network.modules() if isinstance(m, kind) and getattr(m, "has_skip", True)]


def set_factors(by_hand: nn.Module, factors: Iterable[float]) -> None:
    """The factor of each branch in turn of a model made by `Tiny.by_hand`; 0 cuts it out."""
    left = list(factors)
    for block in by_hand.modules():
        if isinstance(block, CutBlock):
            block.factors, left = tuple(left[: block.branches]), left[block.branches :]
    assert not left


def pairs(blocks: Iterable[str], *ends: str) -> tuple[str, ...]:
    return tuple(f"{block}.{end}" for block in blocks for end in ends)


DROPS = ("drop_path1", "drop_path2")
TINY = {
    "resnet": Tiny(
        lambda **o: resnet.ResNet(resnet.BasicBlock, [1, 2, 1, 1], CLASSES, channels=(8, 8, 16, 16), stem_width=8, **o),
        32,
        CutBasic,
        ("layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer4.0"),
        {r"(layer\d\.\d)\.(?!downsample)": r"\1"},
    ),
    "bottleneck": Tiny(
        lambda **o: resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], CLASSES, channels=(4, 4, 8, 8), stem_width=8, **o),
        32,
        CutBottleneck,
        ("layer1.0", "layer2.0", "layer3.0", "layer4.0"),
        {r"(layer\d\.\d)\.(?!downsample)": r"\1"},
    ),
    "vit": Tiny(
        lambda **o: vision_transformer.VisionTransformer(16, 4, 3, CLASSES, embed_dim=24, depth=3, num_heads=2, **o),
        16,
        CutViT,
        pairs([f"blocks.{i}" for i in range(3)], *DROPS),
        {r"(blocks\.\d)\.(norm1|attn)": r"\1.drop_path1", r"(blocks\.\d)\.(norm2|mlp)": r"\1.drop_path2"},
    ),
    "convnext": Tiny(
        lambda **o: convnext.ConvNeXt(3, CLASSES, depths=(1, 1, 2, 1), dims=(8, 8, 12, 12), **o),
        32,
        CutConvNeXt,
        ("stages.0.blocks.0", "stages.1.blocks.0", "stages.2.blocks.0", "stages.2.blocks.1", "stages.3.blocks.0"),
        {r"(stages\.\d\.blocks\.\d)\.": r"\1"},
    ),
    "swin": Tiny(
        lambda drop_path_rate=0.0: swin_transformer.SwinTransformer(
            32,
            2,
            3,
            CLASSES,
            embed_dim=8,
            depths=(2, 2),
            num_heads=(2, 2),
            window_size=4,
            drop_path_rate=drop_path_rate,
        ),
        32,
        CutSwin,
        pairs([f"layers.{i}.blocks.{j}" for i in range(2) for j in range(2)], *DROPS),
        {
            r"(layers\.\d\.blocks\.\d)\.(norm1|attn)": r"\1.drop_path1",
            r"(layers\.\d\.blocks\.\d)\.(norm2|mlp)": r"\1.drop_path2",
        },
    ),
    "efficientnet": Tiny(
        _efficientnet,
        32,
        CutInverted,
        ("blocks.1.1", "blocks.1.2", "blocks.2.1"),
        {r"(blocks\.(1\.1|1\.2|2\.1))\.": r"\1"},
    ),
    "mixer": Tiny(  # both branches of a block end in one droppath module
        lambda: mlp_mixer.MlpMixer(CLASSES, 16, 3, 4, num_blocks=2, embed_dim=16),
        16,
        CutMixer,
        pairs(["blocks.0", "blocks.1"], "drop_path.1", "drop_path.2"),
        {
            r"(blocks\.\d)\.(norm1|mlp_tokens)": r"\1.drop_path.1",
            r"(blocks\.\d)\.(norm2|mlp_channels)": r"\1.drop_path.2",
        },
    ),
    "torchvision": Tiny(
        _torchvision,
        32,
        CutTorchvision,
        ("layer1.0", "layer2.0"),
        {r"(layer\d\.0)\.(?!downsample)": r"\1"},
    ),
    "user": Tiny(_user, 4, CutUser, ("2", "3"), {r"([23])\.": r"\1"}),
}
# Those with a droppath module of timm's for every branch.
TIMM = [name for name in TINY if name not in {"mixer", "torchvision", "user"}]


def gradients(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, dict]:
    """Logits and the gradient of each parameter, by name; None where there is none."""
    network.zero_grad(set_to_none=True)
    logits = network(x)
    F.cross_entropy(logits, y).backward()
    return logits.detach(), {name: p.grad for name, p in network.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether tensors by name are equal to the last bit, and in the same order."""
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
