"""Image files: read, verify, decode, and crop for evaluation. All pixels are uint8."""

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torchvision.io import ImageReadMode
from torchvision.transforms.v2 import functional as F

from rdp.errors import UserError

_CROP = 0.875  # of the shorter side, the default of timm and torchvision for evaluation
_TORCHVISION = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # signatures that torchvision decodes; Pillow has the others


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


def decode(content: bytearray) -> torch.Tensor:
    """Decode an image file to RGB, uint8 of shape (3, height, width); drops an alpha channel.

    Raises `Unreadable` if the file is truncated, damaged, or not an image.
    """
    try:
        if not content.startswith(_TORCHVISION):
            return _by_pillow(content)
        # The operator behind torchvision.io.decode_image, which warns of its own deprecation in every process.
        image: torch.Tensor = torch.ops.image.decode_image(
            torch.frombuffer(content, dtype=torch.uint8), ImageReadMode.RGB.value, False
        )
    except Exception as error:  # decoders raise exceptions of many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(reason.rpartition("cpp:")[2].partition(", ")[2] or reason) from None
    return image if image.dtype == torch.uint8 else (image.to(torch.int32) >> 8).to(torch.uint8)  # 16-bit PNG


def _by_pillow(content: bytearray) -> torch.Tensor:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def evaluation_crop(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize the shorter side to size / 0.875 and crop the centre; an image of exactly this size stays unchanged."""
    if image.shape[1:] == (size, size):
        return image
    crop: torch.Tensor = F.center_crop(F.resize(image, [round(size / _CROP)], antialias=True), [size, size])
    return crop
