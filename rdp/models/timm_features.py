"""What timm's functions read from a model, for one with PNNH stages: layer decay and intermediate features."""

import re
from functools import partial
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rdp.models.coder import Coders
from rdp.models.paths import PnnhStack
from rdp.models.timm_transformer import TransformerStack, check_width


def describe(model: Any) -> None:
    """Give a converted model the ``group_matcher`` and the ``feature_info`` of its PNNH form.

    A layer is in the group of the residual block that it replaces, a coder in that of the first layer that uses it.
    """
    stacks = {name: module for name, module in model.named_modules() if isinstance(module, PnnhStack)}
    patterns = [pattern for name, stack in stacks.items() for pattern in _patterns(name, stack)]
    matchers = {coarse: model.group_matcher(coarse=coarse) for coarse in (False, True)}
    for coarse, matcher in matchers.items():
        if coarse and not isinstance(model, VisionTransformer):  # its groups are stages
            continue
        own = matcher["blocks"]
        matcher["blocks"] = [*patterns, *([(own, None)] if isinstance(own, str) else own)]
    # Of the instance, and neither a method nor a closure, so that the model can be copied and pickled.
    model.group_matcher = partial(_group_matcher, matchers)
    for name, stack in stacks.items():
        if isinstance(stack, TransformerStack):
            _describe_blocks(model, stack)
        elif not name.startswith("layer4"):  # which returns to the width of the head
            (info,) = (info for info in model.feature_info if info["module"] == name.partition(".")[0])
            info["num_chs"] = stack.width


def _group_matcher(matchers: dict[bool, dict[str, Any]], coarse: bool = False) -> dict[str, Any]:
    return matchers[coarse]


def _patterns(name: str, stack: PnnhStack) -> list[tuple[str, tuple[int, ...]]]:
    """Regular expressions of names in a stack, and the numbers of their group: stage, in a ResNet, and block."""
    stage = tuple(map(int, re.findall(r"\d+", name.partition(".")[0])))
    replaced = stack.replaced
    parts = [*((f"layers.{index}", block) for index, block in enumerate(replaced))]
    parts += [("entry", replaced[0]), ("exit", replaced[-1])]
    for kind, coders in enumerate(m for m in stack.coders if isinstance(m, Coders)):
        for number in range(len(coders)):
            first = sum(coders.users[:number])  # of the layers of this kind
            parts.append((f"coders.{kind}.{number}", replaced[kind + first * len(stack.coders)]))
    return [(rf"^{re.escape(f'{name}.{part}.')}", (*stage, block)) for part, block in parts]


def _describe_blocks(model: Any, stack: TransformerStack) -> None:
    for index, info in enumerate(model.feature_info):
        info.update(module=f"blocks.layers.{2 * index + 1}", num_chs=stack.width)
    if not isinstance(stack.exit, nn.Identity):
        model.feature_info[-1].update(module="blocks", num_chs=model.embed_dim)
        if isinstance(model.norm, nn.LayerNorm):
            model.norm.register_forward_pre_hook(check_width)
