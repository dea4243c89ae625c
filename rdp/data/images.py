"""Image files: read, verify, decode, and crop for evaluation. All pixels are uint8."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.io import ImageReadMode
from torchvision.transforms.v2 import functional as F

from rdp.errors import UserError

_CROP = 0.875  # of the shorter side, the default of timm and torchvision for evaluation
_TORCHVISION = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # signatures that torchvision decodes; Pillow has the others
_BITS, _INTERPRETATION = 258, 262  # tags of TIFF: BitsPerSample, PhotometricInterpretation


class Unreadable(Exception):
    """The bytes are not a valid image. The message is the reason."""


def read(path: Path | str) -> bytearray:
    """The bytes of a file; raises `UserError` if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (making a Path doubles the time per image)
            return bytearray(file.read())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_verified(path: Path | str, sha256: bytes) -> bytearray:
    """The bytes of a file; raises `UserError` if they differ from the indexed ones."""
    content = read(path)
    if hashlib.sha256(content).digest() != sha256:
        raise UserError(f"{path}: changed since its dataset was prepared; restore it, or prepare the dataset again")
    return content


def decode(content: bytearray, exif_orientation: bool = False) -> torch.Tensor:
    """Decode an image file to RGB, uint8 of shape (3, height, width); drops an alpha channel and further frames.

    16 bits are reduced to their upper 8. With ``exif_orientation``, the image is turned as its EXIF data say.

    Raises `Unreadable` if the file is truncated, damaged, not an image, or has pixels of no fixed range.
    """
    try:
        if not content.startswith(_TORCHVISION):
            return _by_pillow(content, exif_orientation)
        # The operator behind torchvision.io.decode_image, which warns of its own deprecation in every process.
        image: torch.Tensor = torch.ops.image.decode_image(
            torch.frombuffer(content, dtype=torch.uint8), ImageReadMode.RGB.value, exif_orientation
        )
    except Exception as error:  # decoders raise exceptions of many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(reason.rpartition("cpp:")[2].partition(", ")[2] or reason) from None
    return image if image.dtype == torch.uint8 else (image.to(torch.int32) >> 8).to(torch.uint8)  # 16-bit PNG


def _by_pillow(content: bytearray, exif_orientation: bool) -> torch.Tensor:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as image:
        image.load()  # which turns a TIFF, whose orientation is a property of the format
        if exif_orientation:
            ImageOps.exif_transpose(image, in_place=True)
        # Pillow's own conversion to RGB would clip these pixels at 255.
        shown = Image.fromarray(_upper_byte(image)) if image.mode[0] in "IF" else image
        return torch.from_numpy(np.array(shown.convert("RGB"))).permute(2, 0, 1)


def _upper_byte(image: Any) -> np.ndarray:
    """The upper 8 bits of a grey image of 16 bits, uint8 of shape (height, width)."""
    if image.format == "TIFF":
        bits, interpretation = (image.tag_v2.get(tag) for tag in (_BITS, _INTERPRETATION))
        known = image.mode.startswith("I;16") and bits == (16,) and interpretation == 1
    else:
        known = image.format == "PPM" and image.mode == "I"  # scaled by Pillow to 16 bits
    if not known:
        raise Unreadable(f"grey pixels in Pillow's mode {image.mode} that are not 16-bit with black as 0")
    return (np.array(image) >> 8).astype(np.uint8)


def evaluation_crop(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize the shorter side to size / 0.875 and crop the centre; an image of exactly this size stays unchanged."""
    if image.shape[1:] == (size, size):
        return image
    crop: torch.Tensor = F.center_crop(F.resize(image, [round(size / _CROP)], antialias=True), [size, size])
    return crop
