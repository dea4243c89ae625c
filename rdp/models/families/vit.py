"""Vision transformers (arXiv 2010.11929) from timm's ``VisionTransformer``; all but ``vit_small`` are for small images.

They have pre-norm blocks of attention and MLP, a learned position for each patch, and a head on the mean over patches.
Initial weights come from `rdp.models.initialisation`, as in every other family, and not from timm.
"""

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rdp.models.convert import convert
from rdp.models.initialisation import unrectified
from rdp.models.paths import NetworkConfig
from rdp.models.timm_plain import set_gains

INPUT = "image"
VARIANTS = ("concat", "window", "sum")
ARCHITECTURES = {
    "vit_micro": {"depth": 6, "width": 48, "heads": 3, "mlp_ratio": 2, "patch": 2},
    "vit_micro12": {"depth": 12, "width": 48, "heads": 3, "mlp_ratio": 2, "patch": 2},
    "vit_micro24": {"depth": 24, "width": 48, "heads": 3, "mlp_ratio": 2, "patch": 2},
    # Residual networks narrowed to about the parameters and operations of a PNNH one (window).
    "vit_micro_same_parameters": {"depth": 6, "width": 34, "heads": 2, "mlp_ratio": 2, "patch": 2},
    "vit_micro12_same_parameters": {"depth": 12, "width": 34, "heads": 2, "mlp_ratio": 2, "patch": 2},
    "vit_micro24_same_parameters": {"depth": 24, "width": 34, "heads": 2, "mlp_ratio": 2, "patch": 2},
    "vit_tiny_same_parameters": {"depth": 12, "width": 135, "heads": 3, "mlp_ratio": 4, "patch": 4},
    "vit_tiny": {"depth": 12, "width": 192, "heads": 3, "mlp_ratio": 4, "patch": 4},
    "vit_small": {"depth": 12, "width": 384, "heads": 6, "mlp_ratio": 4, "patch": 16},
}


def build(config: NetworkConfig, *, depth: int, width: int, heads: int, mlp_ratio: float, patch: int) -> nn.Module:
    """``depth`` blocks of two layers, attention and MLP, ``width`` wide, on patches of ``patch`` x ``patch`` pixels.

    ``norm_gain`` is that of the norms, which precede the branches. Linear layers start with variance 1 / fan-in,
    because none of them feeds a rectifier (the MLP's is GELU).
    """
    channels, height, columns = config.input_shape
    network = VisionTransformer(
        img_size=(height, columns),
        patch_size=patch,
        in_chans=channels,
        num_classes=config.classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        class_token=False,
        global_pool="avg",
        weight_init="skip",
    )
    set_gains(network, config.norm_gain)
    convert(network, config.path, config.norm_gain, config.pnnh)
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            unrectified(module)
    vars(network.pos_embed).update(initial_std=0.02)
    return network
