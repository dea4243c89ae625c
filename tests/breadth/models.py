"""Models of timm, torchvision and transformers, with random weights, on the smallest inputs that they take."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from tests.breadth.contract import Case

SIDE = 64  # of images, in pixels, where nothing else is said: at 32 many networks end in one pixel
# The smallest model of each module of timm, but for test models without skips; what is changed of it, and the side.
TIMM: dict[str, tuple[str, dict[str, Any], int]] = {
    "beit": ("beit_base_patch16_224", {"img_size": 64, "embed_dim": 96, "num_heads": 3, "depth": 4}, 64),
    "byoanet": ("eca_botnext26ts_256", {}, 256),
    "byobnet": ("gernet_s", {}, 64),
    "cait": ("cait_xxs24_224", {"img_size": 64}, 64),
    "coat": ("coat_tiny", {"img_size": 64}, 64),
    "convit": ("convit_tiny", {"img_size": 64}, 64),
    "convmixer": ("convmixer_768_32", {}, 64),
    "convnext": ("test_convnext2", {}, 64),
    "cpubone": ("cpubone_nano", {}, 64),
    "crossvit": ("crossvit_tiny_240", {}, 64),
    "csatv2": ("csatv2", {}, 128),
    "cspnet": ("cs3darknet_focus_s", {}, 64),
    "cspnext": ("cspnext_tiny", {}, 64),
    "davit": ("davit_tiny", {"embed_dims": (24, 48, 96, 192)}, 64),
    "deepseek_vit": ("deepseek_vit_412m", {"img_size": 56, "embed_dim": 96, "num_heads": 3, "depth": 4}, 56),
    "deit": ("deit_tiny_distilled_patch16_224", {"img_size": 64}, 64),
    "densenet": ("densenet121", {}, 64),
    "dla": ("dla46x_c", {}, 64),
    "dpn": ("dpn48b", {}, 64),
    "edgenext": ("edgenext_xx_small", {}, 64),
    "efficientformer": ("efficientformer_l1", {}, 224),
    "efficientformer_v2": ("efficientformerv2_s0", {"img_size": 64}, 64),
    "efficientnet": ("mnasnet_small", {}, 64),
    "efficientvim": ("efficientvim_m1", {}, 64),
    "efficientvit_mit": ("efficientvit_b0", {}, 64),
    "efficientvit_msra": ("efficientvit_m0", {"img_size": 64}, 64),
    "eva": ("eva02_tiny_patch14_224", {"img_size": 56}, 56),
    "fasternet": ("fasternet_t0", {}, 64),
    "fastvit": ("fastvit_t8", {}, 64),
    "focalnet": ("focalnet_tiny_srf", {}, 64),
    "gcvit": ("gcvit_xxtiny", {"img_size": 224}, 224),
    "gemma4_vit": ("gemma4_vit_167m", {"img_size": 96, "embed_dim": 96, "num_heads": 3, "depth": 4}, 96),
    "ghostnet": ("ghostnet_050", {}, 64),
    "hardcorenas": ("hardcorenas_a", {}, 64),
    "hgnet": ("hgnetv2_b0", {}, 64),
    "hiera": ("hiera_tiny_224", {"img_size": 64, "embed_dim": 24}, 64),
    "hieradet_sam2": ("sam2_hiera_tiny", {"embed_dim": 24}, 64),
    "hrnet": ("hrnet_w18_small", {}, 64),
    "iformer": ("iformer_t", {}, 64),
    "inception_next": ("inception_next_atto", {}, 64),
    "inception_resnet_v2": ("inception_resnet_v2", {}, 96),
    "inception_v3": ("inception_v3", {}, 96),
    "inception_v4": ("inception_v4", {}, 96),
    "lcnetv2": ("lcnetv2_small", {}, 64),
    "levit": ("levit_128s", {"img_size": 64}, 64),
    "lowformer": ("lowformer_b0", {}, 64),
    "mambaout": ("test_mambaout", {}, 64),
    "maxxvit": ("test_maxvit", {"img_size": 64}, 64),
    "metaformer": ("poolformerv2_s12", {}, 64),
    "mlp_mixer": ("gmlp_ti16_224", {"img_size": 64}, 64),
    "mobilenetv3": ("mobilenetv3_small_050", {}, 64),
    "mobilenetv5": ("mobilenetv5_base", {"channel_multiplier": 0.25}, 64),
    "mobilevit": ("mobilevit_xxs", {}, 64),
    "mvitv2": ("mvitv2_tiny", {"img_size": 64}, 64),
    "naflexvit": ("naflexvit_base_patch16_gap", {"embed_dim": 96, "num_heads": 3, "depth": 4}, 64),
    "nasnet": ("nasnetalarge", {}, 96),
    "nest": ("nest_tiny", {"img_size": 64}, 64),
    "nextvit": ("nextvit_small", {}, 64),
    "nfnet": ("nf_regnet_b0", {}, 64),
    "pit": ("pit_ti_224", {"img_size": 64}, 64),
    "pnasnet": ("pnasnet5large", {}, 96),
    "pvt_v2": ("pvt_v2_b0", {}, 64),
    "qwen3_vit": ("qwen3_vit_88m", {"img_size": 64, "embed_dim": 96, "num_heads": 3, "depth": 4}, 64),
    "rdnet": ("rdnet_tiny", {}, 64),
    "regnet": ("regnetx_002", {}, 64),
    "repghost": ("repghostnet_050", {}, 64),
    "repvit": ("repvit_m1", {}, 64),
    "res2net": ("res2next50", {}, 64),
    "resnest": ("resnest26d", {}, 64),
    "resnet": ("resnet10t", {}, 64),
    "resnetv2": ("resnetv2_18", {}, 64),
    "rexnet": ("rexnet_100", {}, 64),
    "selecsls": ("selecsls42", {}, 64),
    "senet": ("legacy_seresnet18", {}, 64),
    "sequencer": ("sequencer2d_s", {"img_size": 64, "embed_dims": (24, 48, 48, 48)}, 64),
    "shvit": ("shvit_s1", {}, 64),
    "sknet": ("skresnet18", {}, 64),
    "starnet": ("starnet_s050", {}, 64),
    "swiftformer": ("swiftformer_xs", {}, 64),
    "swin_transformer": ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 4, "embed_dim": 24}, 64),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", {"img_size": 64, "window_size": 4, "embed_dim": 24}, 64),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", {"img_size": 64, "window_size": 4, "embed_dim": 24}, 64),
    "tiny_vit": ("tiny_vit_5m_224", {}, 64),
    "tnt": ("tnt_s_legacy_patch16_224", {"img_size": 64}, 64),
    "tresnet": ("tresnet_m", {}, 64),
    "twins": ("twins_svt_small", {"img_size": 64}, 64),
    "vgg": ("vgg11", {}, 64),
    "visformer": ("visformer_tiny", {"img_size": 64}, 64),
    "vision_transformer": ("vit_tiny_patch16_224", {"img_size": 64}, 64),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", {"img_size": 64}, 64),
    "vision_transformer_relpos": ("vit_relpos_small_patch16_rpn_224", {"img_size": 64}, 64),
    "vision_transformer_sam": ("samvit_base_patch16_224", {"img_size": 64, "embed_dim": 96, "num_heads": 3}, 64),
    "vitamin": ("vitamin_small_224", {"img_size": 64}, 64),
    "volo": ("volo_d1_224", {"img_size": 64}, 64),
    "vovnet": ("ese_vovnet39b", {}, 64),
    "xception": ("legacy_xception", {}, 64),
    "xception_aligned": ("xception41p", {}, 64),
    "xcit": ("xcit_nano_12_p16_224", {"img_size": 64}, 64),
}
# Further blocks of the same modules.
MORE: dict[str, tuple[dict[str, Any], int]] = {
    "caformer_s18": ({}, 64),
    "coatnet_nano_rw_224": ({"img_size": 64}, 64),
    "convnextv2_atto": ({}, 64),
    "dla60": ({}, 64),
    "efficientnet_b0": ({}, 64),
    "eva02_base_patch14_448": ({"img_size": 56, "embed_dim": 96, "num_heads": 3, "depth": 3}, 56),
    "ghostnetv2_100": ({}, 64),
    "gmixer_12_224": ({"img_size": 64}, 64),
    "hrnet_w18_small_v2": ({}, 64),
    "lcnet_050": ({}, 64),
    "mixer_s32_224": ({"img_size": 64}, 64),
    "mobilenetv4_conv_small_050": ({}, 64),
    "mobilenetv4_hybrid_medium": ({}, 64),
    "mobilevitv2_050": ({}, 64),
    "regnety_002": ({}, 64),
    "regnetz_005": ({}, 64),
    "res2net50_14w_8s": ({}, 64),
    "resmlp_12_224": ({"img_size": 64}, 64),
    "resnet18": ({}, 64),
    "resnet50": ({}, 64),
    "resnetaa50": ({}, 64),
    "seresnext26d_32x4d": ({}, 64),
    "swin_s3_tiny_224": ({}, 224),
    "test_vit4": ({}, 160),
    "tnt_s_patch16_224": ({"img_size": 64}, 64),
    "twins_pcpvt_small": ({"img_size": 64}, 64),
    "vit_base_patch16_rope_224": ({"img_size": 64, "embed_dim": 96, "num_heads": 3, "depth": 3}, 64),
    "vit_dlittle_patch16_reg1_gap_256": ({"img_size": 64, "depth": 3}, 64),
    "vit_small_patch16_18x2_224": ({"img_size": 64, "depth": 3}, 64),
    "xception65": ({}, 64),
}
# With their own droppath, which a schedule takes over.
DROPPED = ["beit", "coat", "convnext", "efficientnet", "maxxvit", "metaformer", "resnet", "swin_transformer", "tnt"]
TORCHVISION: dict[str, tuple[dict[str, Any], int]] = {
    "googlenet": ({"aux_logits": False, "init_weights": False}, 64),
    "inception_v3": ({"aux_logits": False, "init_weights": False}, 96),
    "maxvit_t": ({"input_size": (64, 64), "partition_size": 2}, 64),
    **{f"vit_{size}": ({"image_size": 64}, 64) for size in ("b_16", "b_32", "l_16", "l_32")},
}
HEAVY = 100e6  # parameters from which a model of torchvision is left out: its smaller ones have the same blocks

_VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32}
_PATCH = _VIT | {"patch_size": 8}
_FOUR = {"hidden_sizes": [16, 16, 32, 32], "depths": [2, 2, 2, 2]}
_SWIN = {"image_size": 64, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
_TEXT = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
_TEXT |= {"max_position_embeddings": 64}
_DECODER = _TEXT | {"num_key_value_heads": 2, "head_dim": 16}
# Configurations of transformers, by the name of their class; the pixels of a side, or None for text.
TRANSFORMERS: dict[str, tuple[dict[str, Any], int | None]] = {
    "Beit": (_PATCH, 32),
    "Bit": (_FOUR | {"embedding_size": 16, "num_groups": 4}, 64),
    "ConvNext": (_FOUR, 64),
    "ConvNextV2": (_FOUR, 64),
    "Cvt": ({"embed_dim": [16, 16, 32], "num_heads": [1, 2, 2], "depth": [1, 2, 2]}, 64),
    "DINOv3ViT": (_PATCH, 32),
    "Data2VecVision": (_PATCH, 32),
    "DeiT": (_PATCH, 32),
    "Dinov2": (_PATCH, 32),
    "Dinov2WithRegisters": (_PATCH, 32),
    "DonutSwin": (_SWIN, 64),
    "EfficientNet": ({"width_coefficient": 0.5, "depth_coefficient": 1.0, "image_size": 64, "hidden_dim": 640}, 64),
    "FocalNet": ({"image_size": 64, "embed_dim": 16, "depths": [2, 2, 2, 2]}, 64),
    "HGNetV2": ({}, 64),
    "Hiera": ({"image_size": [64, 64], "embed_dim": 16, "depths": [1, 2, 2, 1]}, 64),
    "Levit": ({"image_size": 64, "hidden_sizes": [32, 48, 64], "depths": [2, 2, 2]}, 64),
    "MobileNetV1": ({"depth_multiplier": 0.25}, 64),
    "MobileNetV2": ({"depth_multiplier": 0.35}, 64),
    "MobileViT": ({"image_size": 64, "hidden_sizes": [32, 48, 64]}, 64),
    "MobileViTV2": ({"image_size": 64, "width_multiplier": 0.5}, 64),
    "PoolFormer": (_FOUR, 64),
    "Pvt": (_FOUR | {"image_size": 64, "num_attention_heads": [1, 2, 2, 2]}, 64),
    "PvtV2": (_FOUR | {"image_size": 64, "num_attention_heads": [1, 2, 2, 2]}, 64),
    "RegNet": (_FOUR | {"groups_width": 8}, 64),
    "ResNet": (_FOUR | {"embedding_size": 16}, 64),
    "Segformer": (_FOUR | {"num_attention_heads": [1, 2, 2, 2]}, 64),
    "Swin": (_SWIN, 64),
    "SwiftFormer": ({"embed_dims": [16, 16, 32, 32], "depths": [2, 2, 2, 2]}, 64),
    "Swinv2": (_SWIN, 64),
    "ViT": (_PATCH, 32),
    "ViTMSN": (_PATCH, 32),
    "Albert": (_TEXT | {"embedding_size": 16}, None),
    "Bert": (_TEXT, None),
    "DebertaV2": (_TEXT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, None),
    "DistilBert": ({"vocab_size": 50, "dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64}, None),
    "Electra": (_TEXT | {"embedding_size": 16}, None),
    "GPT2": ({"vocab_size": 50, "n_embd": 32, "n_layer": 3, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}, None),
    "GPTNeoX": (_TEXT, None),
    "Gemma": (_DECODER, None),
    "Llama": (_DECODER, None),
    "Mistral": (_DECODER, None),
    "ModernBert": (_TEXT | dict.fromkeys(("pad_token_id", "eos_token_id", "bos_token_id"), 0), None),
    "OPT": (_TEXT | {"ffn_dim": 64, "word_embed_proj_dim": 32}, None),
    "Qwen2": (_DECODER, None),
    "Roberta": (_TEXT, None),
    "T5": ({"vocab_size": 50, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}, None),
}
RATES = ("drop_path_rate", "drop_connect_rate")


def cases() -> Iterator[Case]:
    """All models, in the order of the libraries and of names."""
    yield from timm_cases()
    yield from torchvision_cases()
    yield from transformers_cases()


def timm_cases() -> Iterator[Case]:
    """Every module of timm, with further blocks, and some models with their own droppath."""
    for module in timm.list_modules():
        name, options, side = TIMM.get(module) or (_smallest(module), {}, 224)
        yield Case(f"timm/{module}/{name}", partial(_timm, name, options), partial(_image, side))
    for name, (options, side) in MORE.items():
        yield Case(f"timm/+/{name}", partial(_timm, name, options), partial(_image, side))
    for name, options, side in (TIMM[module] for module in DROPPED):
        build = partial(_timm, name, options | {"drop_path_rate": 0.3})
        yield Case(f"timm/drop_path_rate=0.3/{name}", build, partial(_image, side))


def torchvision_cases() -> Iterator[Case]:
    """The classification models of torchvision; their droppath is on, as they come."""
    for name in torchvision.models.list_models(module=torchvision.models):
        options, side = TORCHVISION.get(name, ({}, SIDE))
        yield Case(f"torchvision/{name}", partial(_torchvision, name, options), partial(_image, side))


def transformers_cases() -> Iterator[Case]:
    """Models of transformers, each without its own droppath and, if it has one, with it."""
    for name, (options, side) in TRANSFORMERS.items():
        inputs = partial(_image, side, "pixel_values") if side else partial(_text, decoder=name == "T5")
        yield Case(f"transformers/{name}", partial(_transformers, name, options, 0.0), inputs)
        if any(hasattr(_config(name, options), rate) for rate in RATES):
            yield Case(f"transformers/{name} at 0.3", partial(_transformers, name, options, 0.3), inputs)


def _smallest(module: str) -> str:
    """The smallest model of a module that the table does not have yet."""

    def size(name: str) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(name).parameters())

    return min(timm.list_models(module=module), key=size)


def _timm(name: str, options: dict[str, Any]) -> nn.Module:
    return timm.create_model(name, num_classes=10, **options)


def _torchvision(name: str, options: dict[str, Any]) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, num_classes=10, **options)


def _config(name: str, options: dict[str, Any], rate: float = 0.0) -> Any:
    import transformers

    config = getattr(transformers, f"{name}Config")(**options)
    for key, value in list(vars(config).items()):
        if key in RATES:
            # Not by setattr: the rate of LeViT is declared an integer.
            vars(config)[key] = [rate] * len(value) if isinstance(value, list | tuple) else rate
        elif "drop" in key and isinstance(value, float):
            vars(config)[key] = 0.0
    return config


def _transformers(name: str, options: dict[str, Any], rate: float) -> nn.Module:
    import transformers

    kind = transformers.AutoModelForImageClassification if TRANSFORMERS[name][1] else transformers.AutoModel
    return kind.from_config(_config(name, options, rate))


def _image(side: int, name: str = "x") -> dict[str, Any]:
    return {name: torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))}


def _text(decoder: bool) -> dict[str, Any]:
    tokens = torch.randint(2, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    return {"input_ids": tokens} | ({"decoder_input_ids": tokens} if decoder else {})
