"""Vision transformers (arXiv 2010.11929) from timm's ``VisionTransformer``, for small images but for ``vit_small``.

Pre-norm blocks of attention and MLP, a learned position for each patch, the mean over patches to the head. timm
draws its own initial weights; here they come from `rdp.models.initial` as in every other family.
"""

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rdp.models.convert import set_path
from rdp.models.paths import with_gain

INPUT = "image"
VARIANTS = ("concat", "sum")
ARCHITECTURES = {
    "vit_micro": {"depth": 6, "width": 48, "heads": 3, "mlp_ratio": 2, "patch": 2},
    "vit_micro12": {"depth": 12, "width": 48, "heads": 3, "mlp_ratio": 2, "patch": 2},
    "vit_micro24": {"depth": 24, "width": 48, "heads": 3, "mlp_ratio": 2, "patch": 2},
    # Residual networks to stand beside a PNNH one (concat), narrowed to about its parameters, and its operations.
    "vit_micro_same_parameters": {"depth": 6, "width": 36, "heads": 3, "mlp_ratio": 2, "patch": 2},
    "vit_micro12_same_parameters": {"depth": 12, "width": 34, "heads": 2, "mlp_ratio": 2, "patch": 2},
    "vit_micro24_same_parameters": {"depth": 24, "width": 34, "heads": 2, "mlp_ratio": 2, "patch": 2},
    "vit_micro12_same_flops": {"depth": 12, "width": 36, "heads": 3, "mlp_ratio": 2, "patch": 2},
    "vit_micro24_same_flops": {"depth": 24, "width": 36, "heads": 3, "mlp_ratio": 2, "patch": 2},
    "vit_tiny": {"depth": 12, "width": 192, "heads": 3, "mlp_ratio": 4, "patch": 4},
    "vit_small": {"depth": 12, "width": 384, "heads": 6, "mlp_ratio": 4, "patch": 16},
}


def build(
    depth: int,
    width: int,
    heads: int,
    mlp_ratio: float,
    patch: int,
    *,
    path: str,
    path_options: dict[str, object],
    norm_gain: float,
    input_shape: tuple[int, ...],
    classes: int,
) -> nn.Module:
    """``depth`` blocks of ``width`` on patches of ``patch`` x ``patch`` pixels; two layers a block, attention and MLP.

    A block normalises in front of each branch, so ``norm_gain`` is the initial gain of those norms. Linear layers
    start with variance 1 / fan-in, none of them feeding a rectifier (the MLP's is GELU).
    """
    channels, *size = input_shape
    network = VisionTransformer(
        img_size=tuple(size),
        patch_size=patch,
        in_chans=channels,
        num_classes=classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        class_token=False,
        global_pool="avg",
        weight_init="skip",
    )
    for block in network.blocks:
        with_gain(block.norm1, norm_gain)
        with_gain(block.norm2, norm_gain)
    set_path(network, path, norm_gain=norm_gain, **path_options)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.feeds_rectifier = False
    network.pos_embed.initial_std = 0.02
    network.pos_embed.no_weight_decay = True
    return network
