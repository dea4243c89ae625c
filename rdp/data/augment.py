"""What is done to an image before it is trained on: a function of the image and of numbers drawn for it."""

import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

from rdp.data.images import evaluated
from rdp.utils import rng

_ATTEMPTS = 10  # at a crop that fits, as in torchvision and timm
_RATIOS = (math.log(3 / 4), math.log(4 / 3))  # of width to height
_DRAWS = 2 * _ATTEMPTS + 6  # area and ratio of each attempt, place of the crop, shift, flip, RandAugment


def draws(seed: int, step: int, batch_size: int) -> np.ndarray:
    """Uniform numbers for each place in the mini-batch of optimizer step ``step``, shape (batch_size, numbers)."""
    return rng.generator(seed, "augment", step).random((batch_size, _DRAWS))


class Augmentation:
    """A recipe's augmentation of images of any size, to ``size`` pixels a side.

    Args:
        size: pixels a side of what comes out.
        resized_crop, crop_padding, flip, randaugment: as in `rdp.spec.Recipe`.
        mean: of the training images' channels, which RandAugment fills corners with.
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
        self.size, self.least, self.padding, self.flip = size, resized_crop, crop_padding, flip
        self.policy = randaugment and rand_augment(randaugment, size, tuple(min(255, round(value)) for value in mean))

    def __call__(self, image: torch.Tensor, numbers: np.ndarray) -> torch.Tensor:
        """A uint8 image of shape (3, size, size), from one of (3, height, width) and its row of `draws`."""
        crop, (top, left, down, right, flip, policy) = numbers[:-6].tolist(), numbers[-6:].tolist()
        if self.least is None:
            image = evaluated(image, self.size)
        else:
            image = _resized(F.crop(image, *crop_box(*image.shape[1:], self.least, crop, top, left)), self.size)
        if self.padding:
            image = F.pad(image, [self.padding] * 4)
            at = (int(share * (2 * self.padding + 1)) for share in (down, right))
            image = F.crop(image, *at, self.size, self.size)
        if self.flip and flip < 0.5:
            image = image.flip(-1)
        return image if self.policy is None else _apply(self.policy, image, int(policy * 2**32))


def crop_box(
    height: int, width: int, least: float, attempts: list[float], top: float, left: float
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random resized crop, as torchvision and timm draw it.

    Args:
        height, width: of the image.
        least: share of its area that a crop has at least.
        attempts: uniform numbers, for area and ratio of each attempt in turn.
        top, left: uniform numbers, for the crop's place.
    """
    low, high = _RATIOS
    for share, shape in zip(attempts[::2], attempts[1::2], strict=True):
        area = height * width * (least + (1 - least) * share)
        ratio = math.exp(low + (high - low) * shape)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(top * (height - h + 1)), int(left * (width - w + 1)), h, w
    # An image so long that no crop fits: its middle, of the nearest shape that is allowed.
    w = min(width, round(height * math.exp(high)))
    h = min(height, round(width / math.exp(low)))
    return (height - h) // 2, (width - w) // 2, h, w


def _resized(image: torch.Tensor, size: int) -> torch.Tensor:
    """To a square: torchvision's resize, bit for bit, in half its time since the channels of a pixel stay together."""
    packed = image[None].contiguous(memory_format=torch.channels_last)
    return interpolate(packed, [size, size], mode="bilinear", antialias=True)[0]


@cache
def rand_augment(name: str, size: int, mean: tuple[int, ...]) -> Callable[[Any], Any]:
    """timm's RandAugment called ``name``, from a Pillow image to another, with what timm's loader sets for it.

    Raises:
        ValueError: timm knows no such one.
    """
    from PIL import Image
    from timm.data import auto_augment

    # Bilinear as the crop before it, which is what timm's loader makes of it too.
    how = {"translate_const": int(size * 0.45), "img_mean": mean, "interpolation": Image.Resampling.BILINEAR}
    try:
        policy = auto_augment.rand_augment_transform(name, how)
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(f"randaugment: timm knows no '{name}' ({error})") from None
    mend(policy)
    return policy


def mend(policy: Any) -> None:
    """Let timm's RandAugment ask for 0 bits of a colour, as it does at its greatest magnitudes.

    That means black, and newer versions of Pillow take it for an error.
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
    """timm draws from the generators of Python and numpy, which all of a process share: set for each image."""
    from PIL import Image

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (timm draws from it)
    pixels = policy(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()))
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
