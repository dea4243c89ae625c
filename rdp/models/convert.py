"""The plain and the PNNH form of timm's ResNets and vision transformers (arXiv 2402.08645).

Plain: every residual block without its shortcut, under the names its layers had, so that both forms start with the
same weights. PNNH: every residual branch a learner, or, in a basic block, each of its two layers, beside a coder that
all layers of equal shape share. A block that changes the shape is plain: a coder maps a width onto itself.
"""

import math
from collections import OrderedDict
from functools import partial

from timm.layers import Mlp
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions, Split
from rdp.models.initial import initialise
from rdp.models.paths import LAYERS, Parts, PnnhLayer, PnnhStack, layer, with_gain

_LAYERS_OF = {
    BasicBlock: ("conv1", "bn1", "act1", "conv2", "bn2", "act2"),
    Bottleneck: ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3"),
    Block: ("norm1", "attn", "ls1", "norm2", "mlp", "ls2"),
}
_ENDS_OF = {BasicBlock: ("act2",), Bottleneck: ("act3",), Block: ("ls1", "ls2")}
_UNUSED = ("aa", "se", "drop_block", "drop_path", "drop_path1", "drop_path2")


class PlainSequence(nn.Sequential):
    """A residual block's layers one after the other; ``ends`` names those in which a layer of the network ends."""

    def __init__(self, layers: dict[str, nn.Module], ends: tuple[str, ...]) -> None:
        super().__init__(OrderedDict(layers))
        self.ends = ends


def set_path(model: nn.Module, path: str, *, norm_gain: float = 1.0, seed: int = 0, **options: object) -> nn.Module:
    """Give a timm model another path, in place, and return it.

    Args:
        model: a ResNet of basic or bottleneck blocks, or a vision transformer of plain blocks.
        path: ``residual`` (as it is), ``plain`` or ``pnnh``.
        norm_gain: initial gain of the norm behind each learner, or in front of it in a transformer.
        seed: of the initial weights of PNNH layers; a plain model keeps the weights that it has.
        **options: of ``pnnh``, see `rdp.methods.options.PnnhOptions`.

    Raises:
        UserError: a model, a block or a width that has no such form.
    """
    if path not in {"residual", "plain", "pnnh"}:
        raise UserError(f"unknown path '{path}'; valid: residual, plain, pnnh")
    if path == "residual":
        return model
    chosen = PnnhOptions.read(options) if path == "pnnh" else None
    if isinstance(model, ResNet):
        for name in ("layer1", "layer2", "layer3", "layer4"):
            blocks = list(getattr(model, name))
            new = nn.Sequential(*map(_plain, blocks)) if chosen is None else _stage(blocks, norm_gain, chosen)
            setattr(model, name, new)
    elif isinstance(model, VisionTransformer):
        blocks = list(model.blocks)
        new = nn.Sequential(*map(_plain, blocks)) if chosen is None else _transformer(blocks, norm_gain, chosen)
        model.blocks = new
    else:
        raise UserError(f"{type(model).__name__}: no {path} form is known; one is of timm's ResNet, VisionTransformer")
    for found in model.modules():
        if isinstance(found, PnnhStack):
            initialise(found, seed)
    return model


def _plain(block: nn.Module) -> PlainSequence:
    kind = type(block)
    if kind not in _LAYERS_OF:
        raise UserError(f"{kind.__name__}: no plain form is known of this block")
    for name in _UNUSED:
        if not isinstance(getattr(block, name, None), nn.Identity | None):
            raise UserError(f"{kind.__name__}: it has '{name}', which its plain form has no place for")
    return PlainSequence({name: getattr(block, name) for name in _LAYERS_OF[kind]}, _ENDS_OF[kind])


def _stage(blocks: list[nn.Module], norm_gain: float, options: PnnhOptions) -> nn.Sequential:
    """The blocks of a ResNet's stage: plain layers up to the stage's shape, then PNNH layers."""
    plain, last = _plain(blocks[0]), blocks[-1]
    changes = blocks[0].downsample is not None
    width = (last.conv2 if isinstance(last, BasicBlock) else last.conv3).out_channels
    if isinstance(last, BasicBlock):
        conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
        parts = Parts(conv, partial(nn.Conv2d, kernel_size=1, bias=False), nn.BatchNorm2d)
        first = PlainSequence({name: plain[i] for i, name in enumerate(("conv1", "bn1", "act1"))}, ("act1",))
        layers = [layer(width, parts, norm_gain, options) for _ in range(2 * len(blocks) - changes)]
    else:
        first = plain
        made = partial(_bottleneck, width, last.conv1.out_channels, norm_gain, options)
        layers = [made() for _ in range(len(blocks) - changes)]
    found: list[nn.Module] = [first] if changes else []
    if layers:
        found.append(PnnhStack(layers, options))
    return nn.Sequential(*found)


def _bottleneck(width: int, inner: int, norm_gain: float, options: PnnhOptions) -> PnnhLayer:
    """A bottleneck of 1 x 1, 3 x 3 and 1 x 1 convolutions, with its share of the parameters of one ``inner`` wide.

    A bottleneck m wide that writes w of its width d has m (d + w) + 9 m^2 parameters.
    """
    split = options.split(width)
    sides = width + split.written
    budget = split.share * (2 * width * inner + 9 * inner**2)
    narrow = max(1, round((math.sqrt(sides**2 + 36 * budget) - sides) / 18))
    learner = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(width, narrow, 1, bias=False),
            bn1=nn.BatchNorm2d(narrow),
            act1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(narrow, narrow, 3, padding=1, bias=False),
            bn2=nn.BatchNorm2d(narrow),
            act2=nn.ReLU(inplace=True),
            conv3=nn.Conv2d(narrow, split.written, 1, bias=False),
        )
    )
    norm = with_gain(nn.BatchNorm2d(split.written), norm_gain)
    return LAYERS[options.variant](split, learner, norm, nn.ReLU())


def _transformer(blocks: list[nn.Module], norm_gain: float, options: PnnhOptions) -> PnnhStack:
    """Attention and MLP sub-layers in turn, each kind with coders of its own."""
    if options.variant not in {"concat", "sum"}:
        raise UserError(f"a transformer's sub-layer ends in no rectifier, so {options.variant} would be sum")
    for block in blocks:
        _plain(block)  # refuses what it has no place for
    width = blocks[0].norm1.weight.numel()
    split = options.split(width)
    layers = []
    for block in blocks:
        for norm, name, learner in (
            (block.norm1, "attn", _attention(block.attn, split)),
            (block.norm2, "mlp", _mlp(block.mlp, split)),
        ):
            # eps and the like are the block's own; the gain is the study's.
            fresh = with_gain(type(norm)(width, eps=norm.eps), norm_gain)
            layers.append(LAYERS[options.variant](split, nn.Sequential(OrderedDict({"norm": fresh, name: learner}))))
    stack = PnnhStack(layers, options, kinds=2)
    for module in stack.modules():
        if isinstance(module, nn.Linear):
            module.feeds_rectifier = False
    return stack


def _attention(residual: Attention, split: Split) -> Attention:
    """Attention with its share of the parameters: a wide inside, it has 3 d a + a w, where the residual one has 4 d^2.

    The heads stay; their width is rounded.
    """
    heads = residual.num_heads
    inner = split.share * 4 * split.width * residual.attn_dim / (3 * split.width + split.written)
    size = max(1, round(inner / heads))
    return Attention(
        split.width, heads, attn_head_dim=size, dim_out=split.written, qkv_bias=residual.qkv.bias is not None
    )


def _mlp(residual: Mlp, split: Split) -> Mlp:
    """An MLP with its share of the parameters: h wide inside, it has h (d + w), where the residual one has 2 d h."""
    hidden = split.share * 2 * split.width * residual.fc1.out_features / (split.width + split.written)
    return Mlp(split.width, max(1, round(hidden)), split.written, act_layer=type(residual.act))
