"""The PNNH form of the blocks of timm's vision transformers (arXiv 2402.08645); see `rdp.set_path`."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions, Split
from rdp.models.coder import Code
from rdp.models.initialisation import unrectified
from rdp.models.paths import PnnhLayer, PnnhStack, with_gain
from rdp.models.pnnh_width import coder_weights, width_of_share
from rdp.models.timm_plain import plain
from rdp.models.timm_pnnh import branch_weights, require


class TransformerStack(PnnhStack):
    """Attention and MLP sub-layers in turn; also a sequence of blocks of two, which timm calls one by one.

    A block is a function of x. The first begins with ``entry``, and the last ends with ``exit``. The coders are
    computed once in each iteration over the blocks.
    """

    def __len__(self) -> int:
        return len(self.layers) // 2

    def __iter__(self) -> Iterator[Callable[..., torch.Tensor]]:
        return iter([partial(self._block, self.codes(), number) for number in range(len(self))])

    def __getitem__(self, index: slice) -> "TransformerStack":
        """The first blocks, without ``exit`` if they are not all; for timm's ``prune_intermediate_layers``."""
        if not isinstance(index, slice) or index.indices(len(self))[::2] != (0, 1):
            raise UserError(
                f"blocks[{index}]: a PNNH transformer has no such part; its sub-layers are in blocks.layers"
            )
        part, count = copy.copy(self), index.indices(len(self))[1]
        exit = self.exit if count == len(self) else nn.Identity()
        part._modules = {**self._modules, "layers": self.layers[: 2 * count], "exit": exit}
        return part

    def codes(self) -> list[Code | None]:
        """The code of each layer, in order; None in a fused stack, whose layers hold their codes."""
        return super().codes() if len(self.coders) else [None] * len(self.layers)

    def _block(self, codes: list[Code | None], number: int, x: torch.Tensor, **mask: Any) -> torch.Tensor:
        """The output of block ``number``."""
        if mask:
            raise UserError(f"a PNNH transformer takes no {next(iter(mask))}")
        if number == 0:
            x = self.entry(x)
        for index in (2 * number, 2 * number + 1):
            x = self.layers[index](x, codes[index])
        if number == len(self) - 1:
            x = self.exit(x)
        return x


def check_width(norm: nn.LayerNorm, inputs: tuple[torch.Tensor, ...]) -> None:
    """A hook of a transformer's final norm; raises `UserError` for features between the layers of a wider stack."""
    (width,) = norm.normalized_shape
    if inputs[0].shape[-1] != width:
        raise UserError(
            f"the final norm reads {width} channels, and there are {inputs[0].shape[-1]} between the layers of this "
            "PNNH transformer; leave out norm=True, and pass intermediates_only=True with stop_early=True"
        )


def transformer_stack(blocks: list[Any], norm_gain: float, options: PnnhOptions) -> TransformerStack:
    """Attention and MLP sub-layers in turn, each kind with coders of its own; with another width, between two linear
    layers.

    Raises `UserError` for a block, a width or a variant that has no such form.
    """
    if options.variant not in {"concat", "window", "sum"}:
        raise UserError(
            f"a transformer's sub-layer ends in no rectifier, so it has no {options.variant} form; valid: concat, "
            "window, sum"
        )
    for block in blocks:
        plain(block)
        _check_transformer_block(block)
    outer: int = blocks[0].norm1.weight.numel()

    def count(width: int) -> int:
        split = options.split(width)
        learners = 0
        for block in blocks:
            size, hidden = _attention_size(block.attn, split), _hidden(block.mlp, split)
            learners += (3 * width + split.written) * size * block.attn.num_heads + hidden * (width + split.written)
        return learners + 2 * coder_weights(width, 1, len(blocks), options) + 2 * outer * width

    width = width_of_share(outer, branch_weights(blocks), count, options)
    split = options.split(width)
    layers = []
    for block in blocks:
        for norm, name in ((block.norm1, "attn"), (block.norm2, "mlp")):
            learner = _attention(block.attn, split) if name == "attn" else _mlp(block.mlp, split)
            fresh = with_gain(type(norm)(width, eps=norm.eps), norm_gain)
            if norm.bias is None:
                fresh.register_parameter("bias", None)
            layers.append(PnnhLayer(options.variant, split, nn.Sequential(OrderedDict({"norm": fresh, name: learner}))))
    ends: dict[str, nn.Module] = {}
    if options.parameters is not None:
        ends = {"entry": nn.Linear(outer, width, bias=False), "exit": nn.Linear(width, outer, bias=False)}
    stack = TransformerStack(layers, options, kinds=2, **ends)
    stack.replaced = [index // 2 for index in range(len(layers))]
    for module in stack.modules():
        if isinstance(module, nn.Linear):
            unrectified(module)
    return stack


def _check_transformer_block(block: Any) -> None:
    attention, mlp, norms = block.attn, block.mlp, (block.norm1, block.norm2)
    kinds = (type(attention), type(mlp))
    require(
        block,
        {
            f"timm's Attention and Mlp, not {kinds[0].__name__} and {kinds[1].__name__}": kinds == (Attention, Mlp),
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


def _attention_size(residual: Attention, split: Split) -> int:
    """The width of a head of attention with its share of the parameters.

    Attention of inner width a has 3 d a + a w parameters, where the residual form has 4 d^2 at the same width d. The
    number of heads is kept.
    """
    full = 4 * split.width * split.width * residual.attn_dim / residual.qkv.in_features
    return max(1, round(split.share * full / (3 * split.width + split.written) / residual.num_heads))


def _attention(residual: Attention, split: Split) -> Attention:
    return Attention(
        split.width,
        residual.num_heads,
        attn_head_dim=_attention_size(residual, split),
        dim_out=split.written,
        qkv_bias=residual.qkv.bias is not None,
        proj_bias=residual.proj.bias is not None,
    )


def _hidden(residual: Mlp, split: Split) -> int:
    """The hidden width of an MLP with its share of the parameters: h (d + w), where the residual form has 2 d h."""
    hidden, width = residual.fc1.weight.shape[:2]
    full = 2 * split.width * split.width * hidden / width
    return max(1, round(split.share * full / (split.width + split.written)))


def _mlp(residual: Mlp, split: Split) -> Mlp:
    biases = (residual.fc1.bias is not None, residual.fc2.bias is not None)
    mlp = Mlp(split.width, _hidden(residual, split), split.written, bias=biases)
    mlp.act = copy.deepcopy(residual.act)  # with its options, such as an approximation
    return mlp
