"""Augmentation of training images, as a function of the image and of its random numbers."""

import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

from rdp.data.images import evaluation_crop
from rdp.utils import rng

_ATTEMPTS = 10  # to draw a crop that fits, as in torchvision and timm
_LOG_RATIOS = (math.log(3 / 4), math.log(4 / 3))  # of width to height
_DRAWS = 2 * _ATTEMPTS + 6  # area and ratio per attempt; position (2), shift (2), flip, RandAugment


def draws(seed: int, step: int, batch_size: int) -> np.ndarray:
    """Uniform random numbers for each example of a step's mini-batch, shape (batch_size, numbers)."""
    return rng.generator(seed, "augment", step).random((batch_size, _DRAWS))


class Augmentation:
    """The augmentation of a recipe.

    Args:
        size: height and width of the output in pixels.
        resized_crop, crop_padding, flip, randaugment: as in `rdp.spec.Recipe`.
        mean: mean of each channel over the training images, with which RandAugment fills corners.
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

    def __call__(self, image: torch.Tensor, numbers: np.ndarray) -> torch.Tensor:
        """Augment a uint8 image of shape (3, height, width) to (3, size, size), given its row of `draws`."""
        attempts, (top, left, down, right, flip, policy) = numbers[:-6].tolist(), numbers[-6:].tolist()
        if self.min_area is None:
            image = evaluation_crop(image, self.size)
        else:
            height, width = image.shape[1:]
            image = _resize(F.crop(image, *crop_box(height, width, self.min_area, attempts, top, left)), self.size)
        if self.padding:
            image = F.pad(image, [self.padding] * 4)
            offset = (int(share * (2 * self.padding + 1)) for share in (down, right))
            image = F.crop(image, *offset, self.size, self.size)
        if self.flip and flip < 0.5:
            image = image.flip(-1)
        return image if self.policy is None else _apply(self.policy, image, int(policy * 2**32))


def crop_box(
    height: int, width: int, min_area: float, attempts: list[float], top: float, left: float
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random resized crop, distributed as in torchvision and timm.

    Args:
        height, width: size of the image.
        min_area: smallest area of the crop, as a share of the image.
        attempts: uniform random numbers, area and ratio of each attempt in turn.
        top, left: uniform random numbers for the position.
    """
    low, high = _LOG_RATIOS
    for share, shape in zip(attempts[::2], attempts[1::2], strict=True):
        area = height * width * (min_area + (1 - min_area) * share)
        ratio = math.exp(low + (high - low) * shape)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(top * (height - h + 1)), int(left * (width - w + 1)), h, w
    # No attempt fits an image this long: crop its centre, at the nearest permitted ratio.
    w = min(width, round(height * math.exp(high)))
    h = min(height, round(width / math.exp(low)))
    return (height - h) // 2, (width - w) // 2, h, w


def _resize(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize to a square: the same bits as torchvision's resize, twice as fast through the channels-last layout."""
    packed = image[None].contiguous(memory_format=torch.channels_last)
    return interpolate(packed, [size, size], mode="bilinear", antialias=True)[0]


@cache
def rand_augment(name: str, size: int, mean: tuple[int, ...]) -> Callable[[Any], Any]:
    """timm's RandAugment policy, a function of Pillow images, with the settings of timm's loader.

    Raises:
        ValueError: timm does not know the policy.
    """
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
    from PIL import ImageOps

    if bits_to_keep >= 8:
        return image
    return ImageOps.posterize(image, bits_to_keep) if bits_to_keep else image.point([0] * 256 * 3)


def _apply(policy: Callable[[Any], Any], image: torch.Tensor, seed: int) -> torch.Tensor:
    """Apply a policy. timm draws from the global generators of Python and numpy, so they are seeded per image."""
    from PIL import Image

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (timm uses the legacy generator)
    pixels = policy(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()))
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
