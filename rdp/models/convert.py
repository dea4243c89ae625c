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
_GAINS_OF = {BasicBlock: ("bn2",), Bottleneck: ("bn3",), Block: ("norm1", "norm2")}
_UNUSED = ("aa", "se", "drop_block", "drop_path", "drop_path1", "drop_path2")


class PlainSequence(nn.Sequential):
    """A residual block's layers one after the other.

    Attributes:
        ends: names of those in which a layer of the network ends.
        gains: names of the norms whose gain is that of the branch.
    """

    def __init__(self, layers: dict[str, nn.Module], ends: tuple[str, ...], gains: tuple[str, ...]) -> None:
        super().__init__(OrderedDict(layers))
        self.ends, self.gains = ends, gains


def set_path(model: nn.Module, path: str, *, norm_gain: float = 1.0, seed: int = 0, **options: object) -> nn.Module:
    """Give a timm model another path, in place, and return it. A model that is refused is left as it was.

    Args:
        model: a ResNet of basic or bottleneck blocks, or a vision transformer of plain blocks.
        path: ``residual`` (as it is), ``plain`` or ``pnnh``.
        norm_gain: initial gain of the norm that ends each block's branch or learner, in a transformer of that in front
            of it. timm starts a ResNet's at 0, at which a block without shortcut puts out nothing.
        seed: of the initial weights of PNNH layers; a plain model keeps the other weights that it has.
        **options: of ``pnnh``, see `rdp.methods.options.PnnhOptions`.

    Raises:
        UserError: a model, a block or a width that has no such form.

    The weights of what stays (stem, head, a plain model's layers but for those gains) are kept; what a released
    checkpoint can fill is filled by `rdp.start_from`. In pnnh, learners and coders (arXiv 2402.08645; this project's
    reading, see `rdp.models.paths`) are new.

    >>> import rdp, timm, torch
    >>> model = rdp.set_path(timm.create_model("test_vit", img_size=32, num_classes=10), "pnnh", variant="sum")
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    if path not in {"residual", "plain", "pnnh"}:
        raise UserError(f"unknown path '{path}'; valid: residual, plain, pnnh")
    if options and path != "pnnh":
        raise UserError(f"a {path} network has no option '{next(iter(options))}'; the options are those of pnnh")
    if path == "residual":
        return model
    if not isinstance(model, ResNet | VisionTransformer):
        raise UserError(f"{type(model).__name__}: no {path} form is known; one is of timm's ResNet, VisionTransformer")
    if any(isinstance(module, PnnhStack | PlainSequence) for module in model.modules()):
        raise UserError(f"{type(model).__name__}: its path is not residual any more; build the model anew")
    chosen = PnnhOptions.read(options) if path == "pnnh" else None
    names = ("layer1", "layer2", "layer3", "layer4") if isinstance(model, ResNet) else ("blocks",)
    whole = _stage if isinstance(model, ResNet) else _transformer
    new: dict[str, nn.Module] = {}
    for name in names:
        blocks = list(getattr(model, name))
        here = next(model.parameters())
        plain = [_plain(block) for block in blocks]
        made = nn.Sequential(*plain) if chosen is None else whole(blocks, norm_gain, chosen)
        for stack in (module for module in made.modules() if isinstance(module, PnnhStack)):
            initialise(stack, seed)
            stack.to(device=here.device, dtype=here.dtype)
        new[name] = made
    for name, made in new.items():  # none before all are known to have the form
        setattr(model, name, made)
        for sequence in (module for module in made.modules() if isinstance(module, PlainSequence)):
            for norm in sequence.gains:
                with_gain(getattr(sequence, norm), norm_gain)
    return model


def _plain(block: nn.Module) -> PlainSequence:
    kind = type(block)
    if kind not in _LAYERS_OF:
        raise UserError(f"{kind.__name__}: no plain form is known of this block")
    for name in _UNUSED:
        if not isinstance(getattr(block, name, None), nn.Identity | None):
            raise UserError(f"{kind.__name__}: it has '{name}', which its plain form has no place for")
    return PlainSequence({name: getattr(block, name) for name in _LAYERS_OF[kind]}, _ENDS_OF[kind], _GAINS_OF[kind])


def _require(block: nn.Module, expected: dict[str, bool]) -> None:
    """Refuse a block with something that would be lost in its PNNH form, whose layers are new ones."""
    for what, there in expected.items():
        if not there:
            raise UserError(f"{type(block).__name__}: its pnnh form is known only with {what}")


def _stage(blocks: list[nn.Module], norm_gain: float, options: PnnhOptions) -> nn.Sequential:
    """The blocks of a ResNet's stage: plain layers up to the stage's shape, then PNNH layers."""
    for block in blocks:
        convs = [module for name, module in block.named_children() if name.startswith("conv")]
        _require(
            block,
            {
                "ReLU": all(type(m) is nn.ReLU for name, m in block.named_children() if name.startswith("act")),
                "BatchNorm2d": all(
                    type(m) is nn.BatchNorm2d for name, m in block.named_children() if name.startswith("bn")
                ),
                "convolutions of one group, undilated": all(c.groups == 1 and c.dilation == (1, 1) for c in convs),
            },
        )
    plain, last = _plain(blocks[0]), blocks[-1]
    changes = blocks[0].downsample is not None
    width = (last.conv2 if isinstance(last, BasicBlock) else last.conv3).out_channels
    if isinstance(last, BasicBlock):
        conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
        parts = Parts(conv, partial(nn.Conv2d, kernel_size=1, bias=False), nn.BatchNorm2d)
        first = PlainSequence({name: plain[i] for i, name in enumerate(("conv1", "bn1", "act1"))}, ("act1",), ("bn1",))
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
        attention, mlp = block.attn, block.mlp
        _require(
            block,
            {
                "timm's own Attention and Mlp": type(attention) is Attention and type(mlp) is Mlp,
                "no norms inside": all(
                    isinstance(getattr(owner, name, None), nn.Identity | None)
                    for owner in (attention, mlp)
                    for name in ("q_norm", "k_norm", "norm")
                ),
                "no gate": attention.gate is None,
                "no dropout": all(m.p == 0 for m in block.modules() if isinstance(m, nn.Dropout)),
                "no LayerScale": isinstance(block.ls1, nn.Identity) and isinstance(block.ls2, nn.Identity),
                "LayerNorm": type(block.norm1) is type(block.norm2) and isinstance(block.norm1, nn.LayerNorm),
            },
        )
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
