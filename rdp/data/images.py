"""From an image's file to pixels: read, verified, decoded, and cut to the size of a network's input. All in uint8."""

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torchvision.io import ImageReadMode
from torchvision.transforms.v2 import functional as F

from rdp.errors import UserError

_SHARE = 0.875  # of the shorter side that an evaluated image keeps, as timm and torchvision have it
_TORCHVISION = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # how files begin that it decodes; Pillow has all other formats


class Unreadable(Exception):
    """Bytes that are no image, and why."""


def read(path: Path | str) -> bytearray:
    """A file's bytes; raises `UserError` for one that cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (once an image: a Path would take as long again)
            return bytearray(file.read())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def verified(path: Path | str, sha256: bytes) -> bytearray:
    """The bytes of a file that the index holds; raises `UserError` where they are not those that were indexed."""
    content = read(path)
    if hashlib.sha256(content).digest() != sha256:
        raise UserError(f"{path}: changed since its dataset was prepared; put it back, or prepare the dataset again")
    return content


def decode(content: bytearray) -> torch.Tensor:
    """The pixels of an image file, (3, height, width) in uint8; grey, palette and CMYK images as RGB, no alpha.

    Raises:
        Unreadable: it is truncated, damaged, or no image.
    """
    try:
        if not content.startswith(_TORCHVISION):
            return _by_pillow(content)
        # torchvision.io.decode_image without its warning, once a process, that torchvision means to drop it one day.
        found = torch.ops.image.decode_image(
            torch.frombuffer(content, dtype=torch.uint8), ImageReadMode.RGB.value, False
        )
    except Exception as error:  # decoders tell of damage in ways of all kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(reason.rpartition("cpp:")[2].partition(", ")[2] or reason) from None
    return found if found.dtype == torch.uint8 else (found.to(torch.int32) >> 8).to(torch.uint8)  # PNG of 16 bits


def _by_pillow(content: bytearray) -> torch.Tensor:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def evaluated(image: torch.Tensor, size: int) -> torch.Tensor:
    """What a network is evaluated on, (3, size, size): the middle of the image, its shorter side size / 0.875; an image
    of that very size as it is."""
    if image.shape[1:] == (size, size):
        return image
    return F.center_crop(F.resize(image, [round(size / _SHARE)], antialias=True), [size, size])
