"""The plain and the PNNH form of timm's ResNets and vision transformers (arXiv 2402.08645).

Plain: every residual block without its shortcut. Its layers keep their names, so both forms start with the same
weights. PNNH: every residual branch, or each of the two layers of a basic block, becomes a learner beside a coder that
all layers of equal shape share. A block that changes the shape is plain, because a coder maps a width onto itself.
"""

import math
from collections import OrderedDict
from functools import partial

from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions, Split
from rdp.models.initialisation import initialise, unrectified
from rdp.models.paths import Parts, PnnhLayer, PnnhStack, pnnh_layer, with_gain

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


def set_path(model: nn.Module, path: str, *, norm_gain: float = 1.0, seed: int = 0, **options: object) -> nn.Module:
    """Convert a timm model to another path in place, and return it. A model that is refused stays unchanged.

    Weights of unchanged layers are kept: stem, head and, in a plain model, all layers but the gains set by
    ``norm_gain``. Learners and coders of ``pnnh`` (arXiv 2402.08645; this project's reading, see `rdp.models.paths`)
    are new. `rdp.start_from` loads a released checkpoint where names and shapes agree.

    Args:
        model: a ResNet of basic or bottleneck blocks, or a vision transformer of plain blocks.
        path: ``residual`` (unchanged), ``plain`` or ``pnnh``.
        norm_gain: initial gain of the norm that ends each block's branch or learner; in a transformer, of the norm in
            front of it. timm starts a ResNet's at 0, with which a block without shortcut outputs nothing.
        seed: of the initial weights of PNNH layers.
        **options: of ``pnnh``, see `rdp.methods.options.PnnhOptions`.

    Raises:
        UserError: a model, block or width without such a form.

    >>> import rdp, timm, torch
    >>> model = rdp.set_path(timm.create_model("test_vit", img_size=32, num_classes=10), "pnnh", variant="sum")
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return convert(model, path, norm_gain, PnnhOptions.read(options, path), seed)


def convert(model: nn.Module, path: str, norm_gain: float, options: PnnhOptions, seed: int = 0) -> nn.Module:
    """Convert a timm model as `set_path` does, with checked options."""
    if path == "residual":
        return model
    if not isinstance(model, ResNet | VisionTransformer):
        raise UserError(
            f"{type(model).__name__}: no {path} form is known; only timm's ResNet and VisionTransformer have one"
        )
    if any(isinstance(module, PnnhStack | PlainSequence) for module in model.modules()):
        raise UserError(f"{type(model).__name__}: its path is not residual any more; build a new model")
    names = ("layer1", "layer2", "layer3", "layer4") if isinstance(model, ResNet) else ("blocks",)
    pnnh_form = _resnet_stage if isinstance(model, ResNet) else _transformer
    parameter = next(model.parameters())
    stages: dict[str, nn.Module] = {}
    for name in names:
        blocks = list(model.get_submodule(name).children())
        plain = [_plain(block) for block in blocks]
        stage: nn.Module = nn.Sequential(*plain) if path == "plain" else pnnh_form(blocks, norm_gain, options)
        for stack in (module for module in stage.modules() if isinstance(module, PnnhStack)):
            initialise(stack, seed)
            stack.to(device=parameter.device, dtype=parameter.dtype)
        stages[name] = stage
    for name, stage in stages.items():  # only after every stage is known to have the form
        setattr(model, name, stage)
        for sequence in (module for module in stage.modules() if isinstance(module, PlainSequence)):
            for norm in sequence.gains:
                with_gain(sequence.get_submodule(norm), norm_gain)
    return model


def _plain(block: nn.Module) -> PlainSequence:
    kind = type(block)
    if kind not in _LAYERS:
        raise UserError(f"{kind.__name__}: no plain form is known for this block")
    for name in _MUST_BE_IDENTITY:
        if not isinstance(getattr(block, name, None), nn.Identity | None):
            raise UserError(f"{kind.__name__}: its plain form does not support '{name}'")
    return PlainSequence({name: getattr(block, name) for name in _LAYERS[kind]}, _ENDS[kind], _GAINS[kind])


def _require(block: nn.Module, properties: dict[str, bool]) -> None:
    """Refuse a block with a property that its PNNH form, made of new layers, would lose."""
    for name, holds in properties.items():
        if not holds:
            raise UserError(f"{type(block).__name__}: its pnnh form is known only with {name}")


def _resnet_stage(blocks: list[nn.Module], norm_gain: float, options: PnnhOptions) -> nn.Sequential:
    """The blocks of a ResNet's stage: plain layers up to the stage's shape, then PNNH layers."""
    for block in blocks:
        named = dict(block.named_children())
        convs = [m for name, m in named.items() if name.startswith("conv")]
        _require(
            block,
            {
                "ReLU": all(type(m) is nn.ReLU for name, m in named.items() if name.startswith("act")),
                "BatchNorm2d": all(type(m) is nn.BatchNorm2d for name, m in named.items() if name.startswith("bn")),
                "convolutions of one group, undilated": all(
                    isinstance(c, nn.Conv2d) and c.groups == 1 and c.dilation == (1, 1) for c in convs
                ),
            },
        )
    first, last = blocks[0], blocks[-1]
    changes_shape = first.downsample is not None
    plain: nn.Module = _plain(first)
    if isinstance(last, BasicBlock):
        width = last.conv2.out_channels
        conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
        parts = Parts(conv, partial(nn.Conv2d, kernel_size=1, bias=False), nn.BatchNorm2d)
        plain = PlainSequence({name: getattr(first, name) for name in ("conv1", "bn1", "act1")}, ("act1",), ("bn1",))
        layers = [pnnh_layer(width, parts, norm_gain, options) for _ in range(2 * len(blocks) - changes_shape)]
    else:
        assert isinstance(last, Bottleneck)
        width, inner = last.conv3.out_channels, last.conv1.out_channels
        layers = [_bottleneck(width, inner, norm_gain, options) for _ in range(len(blocks) - changes_shape)]
    return nn.Sequential(*([plain] if changes_shape else []), *([PnnhStack(layers, options)] if layers else []))


def _bottleneck(width: int, inner: int, norm_gain: float, options: PnnhOptions) -> PnnhLayer:
    """A bottleneck of 1 x 1, 3 x 3 and 1 x 1 convolutions, with its share of the parameters of one ``inner`` wide.

    A bottleneck of inner width m that writes w of its width d has m (d + w) + 9 m^2 parameters.
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
    return PnnhLayer(options.variant, split, learner, norm, nn.ReLU())


def _transformer(blocks: list[nn.Module], norm_gain: float, options: PnnhOptions) -> PnnhStack:
    """Attention and MLP sub-layers in turn, each kind with coders of its own."""
    if options.variant not in {"concat", "sum"}:
        raise UserError(f"a transformer's sub-layer ends in no rectifier, so {options.variant} would equal sum")
    layers = []
    for block in blocks:
        attention, mlp, norms = block.attn, block.mlp, (block.norm1, block.norm2)
        _require(
            block,
            {
                "timm's own Attention and Mlp": type(attention) is Attention and type(mlp) is Mlp,
                "no norms inside": all(
                    isinstance(getattr(owner, name, None), nn.Identity | None)
                    for owner in (attention, mlp)
                    for name in ("q_norm", "k_norm", "norm")
                ),
                "no gate": getattr(attention, "gate", None) is None,
                "no dropout": all(m.p == 0 for m in block.modules() if isinstance(m, nn.Dropout)),
                "no LayerScale": isinstance(block.ls1, nn.Identity) and isinstance(block.ls2, nn.Identity),
                "LayerNorm": type(norms[0]) is type(norms[1]) and isinstance(norms[0], nn.LayerNorm),
            },
        )
        assert isinstance(attention, Attention)
        assert isinstance(mlp, Mlp)
        for norm, name in zip(norms, ("attn", "mlp"), strict=True):
            assert isinstance(norm, nn.LayerNorm)
            width = norm.weight.numel()
            split = options.split(width)
            learner = _attention(attention, split) if name == "attn" else _mlp(mlp, split)
            # eps and the class of the norm are the block's.
            fresh = with_gain(type(norm)(width, eps=norm.eps), norm_gain)
            layers.append(PnnhLayer(options.variant, split, nn.Sequential(OrderedDict({"norm": fresh, name: learner}))))
    stack = PnnhStack(layers, options, kinds=2)
    for module in stack.modules():
        if isinstance(module, nn.Linear):
            unrectified(module)
    return stack


def _attention(residual: Attention, split: Split) -> Attention:
    """Attention with its share of the parameters: 3 d a + a w for inner width a, where the residual one has 4 d^2.

    The number of heads is kept; their width is rounded.
    """
    heads = residual.num_heads
    inner = split.share * 4 * split.width * residual.attn_dim / (3 * split.width + split.written)
    size = max(1, round(inner / heads))
    return Attention(
        split.width, heads, attn_head_dim=size, dim_out=split.written, qkv_bias=residual.qkv.bias is not None
    )


def _mlp(residual: Mlp, split: Split) -> Mlp:
    """An MLP with its share of the parameters: h (d + w) for hidden width h, where the residual one has 2 d h."""
    hidden = split.share * 2 * split.width * residual.fc1.weight.shape[0] / (split.width + split.written)
    return Mlp(split.width, max(1, round(hidden)), split.written, act_layer=type(residual.act))
