"""Models of timm, torchvision and transformers, with random weights, on the smallest inputs that they take."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from tests.breadth.findings import Case
from tests.breadth.tables import (
    DROPPED,
    DROPPED_TRANSFORMERS,
    LARGER,
    MORE,
    RATES,
    TIMM,
    TORCHVISION,
    TRANSFORMERS,
)


def cases(larger: bool = False) -> Iterator[Case]:
    """All models, in the order of the libraries and of names; on request larger ones with the same blocks."""
    yield from timm_cases()
    yield from torchvision_cases(larger)
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


def torchvision_cases(larger: bool = False) -> Iterator[Case]:
    """The classification models of torchvision; their droppath is on, as they come."""
    for name in sorted({*TORCHVISION, *(LARGER if larger else ())}):
        side = 96 if name == "inception_v3" else 64
        yield Case(f"torchvision/{name}", partial(_torchvision, name, TORCHVISION.get(name, {})), partial(_image, side))


def transformers_cases() -> Iterator[Case]:
    """Models of transformers, each without its own droppath and, if it has one, with it."""
    for name, (options, side) in TRANSFORMERS.items():
        inputs = partial(_image, side, "pixel_values") if side else partial(_text, decoder=name == "T5")
        yield Case(f"transformers/{name}", partial(_transformers, name, options, 0.0), inputs)
        if name in DROPPED_TRANSFORMERS:
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
    if name == "maxvit_t":  # which has windows of 7 x 7 of images of 224 x 224
        blocks = {"block_layers": [1, 2], "partition_size": 2, "stochastic_depth_prob": 0.2}
        return torchvision.models.MaxVit(num_classes=10, **blocks, **options)
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

    kind = getattr(transformers, f"{name}ForImageClassification", None) or getattr(transformers, f"{name}Model")
    model: nn.Module = kind(_config(name, options, rate))
    return model


def _image(side: int, name: str = "x") -> dict[str, Any]:
    return {name: torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))}


def _text(decoder: bool) -> dict[str, Any]:
    tokens = torch.randint(2, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    return {"input_ids": tokens} | ({"decoder_input_ids": tokens} if decoder else {})
