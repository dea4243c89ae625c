"""The PNNH forms of the stages of timm's ResNets (arXiv 2402.08645); see `rdp.set_path`.

If `PnnhOptions.parameters` sets the width of a stage, its first layers are made anew with that width. The last stage
then ends in a layer that returns to the width of the head, so stem and head are kept.
"""

import math
from collections import OrderedDict
from functools import partial
from itertools import accumulate
from typing import Any

from timm.models.resnet import BasicBlock
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions, Split
from rdp.models.initialisation import mirrored
from rdp.models.paths import Parts, PnnhLayer, PnnhStack, pnnh_stack, with_gain
from rdp.models.pnnh_width import coder_weights, learner_layers, stack_weights, width_of_share
from rdp.models.timm_plain import PlainSequence, plain

_pointwise = partial(nn.Conv2d, kernel_size=1, bias=False)
_PARTS = Parts(partial(nn.Conv2d, kernel_size=3, padding=1, bias=False), _pointwise, nn.BatchNorm2d)


def resnet_stages(stages: list[list[Any]], norm_gain: float, options: PnnhOptions) -> list[nn.Sequential]:
    """The PNNH forms of a ResNet's stages, each given as its blocks: plain layers that change the shape, then a stack.

    Raises `UserError` for a block or a width that has no such form.
    """
    for block in (block for blocks in stages for block in blocks):
        plain(block)
        _check_resnet_block(block)
    forms: list[nn.Sequential] = []
    width_in = stages[0][0].conv1.in_channels
    for blocks in stages:
        make = _basic_stage if isinstance(blocks[0], BasicBlock) else _bottleneck_stage
        # Only the last stage must end in the width that the head reads.
        form, width_in = make(blocks, width_in, norm_gain, options, returns=blocks is stages[-1])
        forms.append(form)
    return forms


def _basic_stage(
    blocks: list[Any], width_in: int, norm_gain: float, options: PnnhOptions, *, returns: bool
) -> tuple[nn.Sequential, int]:
    """The form of a stage of basic blocks, two layers each, and its width."""
    first = blocks[0]
    head: int = blocks[-1].conv2.out_channels
    changes = first.downsample is not None or options.parameters is not None
    depth = 2 * len(blocks) - changes

    def count(width: int) -> int:
        return changes * 9 * width_in * width + stack_weights(width, depth, 9, options) + returns * width * head

    width = width_of_share(head, branch_weights(blocks), count, options)
    layers: list[nn.Module] = []
    if changes:
        sequence = plain(first)
        children = {name: sequence.get_submodule(name) for name in ("conv1", "bn1", "act1")}
        layers.append(PlainSequence(_resized(children, width_in, width), ("act1",), ("bn1",)))
    narrowing = Narrowing(width, head) if returns and options.parameters else None
    stack = pnnh_stack(width, depth, _PARTS, norm_gain, options, narrowing)
    stack.replaced = [last // 2 for last in accumulate(learner_layers(depth, options), initial=changes)][:-1]
    layers.append(stack)
    return nn.Sequential(*layers), width


def _bottleneck_stage(
    blocks: list[Any], width_in: int, norm_gain: float, options: PnnhOptions, *, returns: bool
) -> tuple[nn.Sequential, int]:
    """The form of a stage of bottlenecks, and its width. A stage of one block that changes the shape is plain."""
    first = blocks[0]
    inner: int = blocks[-1].conv1.out_channels
    head: int = blocks[-1].conv3.out_channels
    changes = first.downsample is not None or (options.parameters is not None and len(blocks) > 1)
    depth = len(blocks) - changes
    # At other widths the full bottleneck, of which a learner has its share, keeps its proportions.
    ratio = inner / head

    def count(width: int) -> int:
        split = options.split(width)
        narrow = _narrowed(split, ratio * width)
        learner = narrow * (width + split.written) + 9 * narrow**2
        entry = inner * (width_in + width) + 9 * inner**2
        coders = coder_weights(width, 1, depth, options)
        return changes * entry + depth * learner + coders + returns * width * head

    width = width_of_share(head, branch_weights(blocks), count, options) if depth else head
    layers: list[nn.Module] = []
    if changes:
        sequence = plain(first)
        children: dict[str, Any] = dict(sequence._modules)
        children |= _resized({"conv1": first.conv1}, width_in, inner)
        children |= _resized({"conv3": first.conv3, "bn3": first.bn3}, inner, width)
        layers.append(PlainSequence(children, sequence.ends, sequence.gains))
    if depth:
        learners = [_bottleneck(width, ratio * width, norm_gain, options) for _ in range(depth)]
        narrowing = Narrowing(width, head) if returns and options.parameters else None
        stack = PnnhStack(learners, options, exit=narrowing)
        stack.replaced = list(range(changes, len(blocks)))
        layers.append(stack)
    return nn.Sequential(*layers), width


def _check_resnet_block(block: Any) -> None:
    named = dict(block.named_children())
    convs = [m for name, m in named.items() if name.startswith("conv")]
    require(
        block,
        {
            "ReLU": all(type(m) is nn.ReLU for name, m in named.items() if name.startswith("act")),
            "BatchNorm2d": all(type(m) is nn.BatchNorm2d for name, m in named.items() if name.startswith("bn")),
            "convolutions of one group, undilated": all(
                isinstance(c, nn.Conv2d) and c.groups == 1 and c.dilation == (1, 1) for c in convs
            ),
        },
    )


def require(block: Any, properties: dict[str, bool]) -> None:
    """Refuse a block with a property that its PNNH form, made of new layers, would lose."""
    for name, holds in properties.items():
        if not holds:
            raise UserError(f"{type(block).__name__}: its pnnh form is known only with {name}")


def branch_weights(blocks: list[Any]) -> int:
    """The weights of the residual form's branches, which `PnnhOptions.parameters` refers to."""
    return sum(
        m.weight.numel()
        for block in blocks
        for name, child in block.named_children()
        if name != "downsample"
        for m in child.modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    )


def _resized(children: dict[str, nn.Module], width_in: int, width: int) -> dict[str, nn.Module]:
    """Layers with other numbers of channels; the same layers if they have these."""
    resized = dict(children)
    for name, layer in children.items():
        if isinstance(layer, nn.Conv2d) and (layer.in_channels, layer.out_channels) != (width_in, width):
            geometry: Any = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
            resized[name] = nn.Conv2d(width_in, width, **geometry, bias=False)
        elif isinstance(layer, nn.BatchNorm2d) and layer.num_features != width:
            resized[name] = nn.BatchNorm2d(width, layer.eps, layer.momentum)
    return resized


class Narrowing(nn.Sequential):
    """phi(norm(conv(x))) with a 1 x 1 convolution to the width of the head."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.conv = _pointwise(width, head)
        self.norm = nn.BatchNorm2d(head)
        self.relu = nn.ReLU(inplace=True)


def _narrowed(split: Split, inner: float) -> int:
    """The inner width of a bottleneck with its share of the parameters of one ``inner`` wide.

    A bottleneck of inner width m that reads d channels and writes w has m (d + w) + 9 m^2 parameters.
    """
    sides = split.width + split.written
    budget = split.share * (2 * split.width * inner + 9 * inner**2)
    return max(1, round((math.sqrt(sides**2 + 36 * budget) - sides) / 18))


def _bottleneck(width: int, inner: float, norm_gain: float, options: PnnhOptions) -> PnnhLayer:
    """A bottleneck of 1 x 1, 3 x 3 and 1 x 1 convolutions; see `_narrowed`."""
    split = options.split(width)
    narrow = _narrowed(split, inner)
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
    if options.variant == "two_sided" and options.start == "orthogonal":
        mirrored(learner[0])
    norm = with_gain(nn.BatchNorm2d(width if options.variant == "strict" else split.written), norm_gain)
    return PnnhLayer(options.variant, split, learner, norm, nn.ReLU())
