"""Augmentation of training images, as a function of the image and a seed."""

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from rdp.data.images import evaluation_crop
from rdp.utils import rng

_RATIOS = [3 / 4, 4 / 3]  # of width to height, as in torchvision and timm


def seeds(seed: int, step: int, batch_size: int) -> list[int]:
    """The seed of the augmentation of each example of a step's mini-batch."""
    numbers: list[int] = rng.generator(seed, "augment", step).integers(2**32, size=batch_size).tolist()
    return numbers


class Augmentation:
    """The augmentation of a recipe, for images of ``size`` x ``size`` pixels.

    ``flip`` stands for random horizontal flips. ``mean`` is that of each channel over the training images, with which
    RandAugment fills corners.
    """

    def __init__(
        self,
        size: int,
        resized_crop: float | None,
        crop_padding: int,
        flip: bool,
        randaugment: str | None,
        mean: tuple[float, ...],
    ) -> None:
        self.size, self.min_area, self.padding, self.flip = size, resized_crop, crop_padding, flip
        fill = tuple(min(255, round(value)) for value in mean)
        self.policy = rand_augment(randaugment, size, fill) if randaugment else None

    def __call__(self, image: torch.Tensor, seed: int, flipped: bool = False) -> torch.Tensor:
        """Augment a uint8 image of shape (3, height, width) to (3, size, size); ``flipped`` says to flip it as well.

        Torchvision and timm draw from the global generators, which are seeded for every image.
        """
        torch.default_generator.manual_seed(seed)  # of the CPU only
        if self.min_area is None:
            image = evaluation_crop(image, self.size)
        else:
            box = RandomResizedCrop.get_params(image, [self.min_area, 1.0], _RATIOS)
            image = _resize(F.crop(image, *box), self.size)
        if self.padding:
            top, left = torch.randint(2 * self.padding + 1, (2,)).tolist()
            image = F.crop(F.pad(image, [self.padding] * 4), top, left, self.size, self.size)
        if flipped != (self.flip and torch.rand(()).item() < 0.5):
            image = image.flip(-1)
        return image if self.policy is None else _apply(self.policy, image, seed)


def _resize(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize to a square: the same bits as torchvision's resize, twice as fast through the channels-last layout."""
    packed = image[None].contiguous(memory_format=torch.channels_last)
    return interpolate(packed, [size, size], mode="bilinear", antialias=True)[0]


@cache
def rand_augment(name: str, size: int, mean: tuple[int, ...]) -> Callable[[Any], Any]:
    """timm's RandAugment policy, a function of Pillow images; raises `ValueError` for one that timm does not know."""
    from PIL import Image
    from timm.data import auto_augment

    # Bilinear, like the resized crop before it and as in timm's loader.
    settings = {"translate_const": int(size * 0.45), "img_mean": mean, "interpolation": Image.Resampling.BILINEAR}
    try:
        policy: Callable[[Any], Any] = auto_augment.rand_augment_transform(name, settings)
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(f"randaugment: timm does not know '{name}' ({error})") from None
    patch_posterize(policy)
    return policy


def patch_posterize(policy: Any) -> None:
    """Make posterize to 0 bits return black in timm's RandAugment.

    timm asks for 0 bits at its largest magnitudes, and recent versions of Pillow raise an error.
    """
    from timm.data import auto_augment

    for operation in policy.ops:
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = _posterize


def _posterize(image: Any, bits_to_keep: int, **options: Any) -> Any:
    from timm.data import auto_augment

    posterize: Callable[[Any, int], Any] = auto_augment.posterize
    return posterize(image, bits_to_keep) if bits_to_keep else image.point([0] * 256 * 3)


def _apply(policy: Callable[[Any], Any], image: torch.Tensor, seed: int) -> torch.Tensor:
    """Apply a policy of timm, which draws from the generators of Python and numpy."""
    from PIL import Image

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (timm uses the legacy generator)
    pixels = policy(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()))
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
