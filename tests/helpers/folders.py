"""Folders of small images that tests write themselves, and their declarations."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

CLASSES = ("ant", "bee", "cat")


def picture(number: int, width: int = 24, height: int = 24) -> Image.Image:
    """A picture that is unlike that of any other number: a colour that runs, and noise."""
    draw = np.random.default_rng(number)
    colour = draw.integers(0, 128, 3)
    ramp = np.linspace(0, 100, width)[None, :, None]
    return Image.fromarray((colour + ramp + draw.integers(0, 28, (height, width, 3))).astype(np.uint8))


def tiff(pixels: np.ndarray, *, bits: int | None = None, interpretation: int | None = None) -> bytes:
    """A TIFF with these pixels, of shape (height, width) or (height, width, 3), as their type and byte order say."""
    height, width, *channels = pixels.shape
    order, count = (">" if pixels.dtype.byteorder == ">" else "<"), (channels or [1])[0]
    data, depth = pixels.tobytes(), bits or 8 * pixels.dtype.itemsize
    start = 8 + 2 * count  # of the pixels, after the header and the depths of the channels
    shown = interpretation if interpretation is not None else (2 if channels else 1)
    fields = [
        (256, "H", 1, width),
        (257, "H", 1, height),
        (258, "H", count, depth if count == 1 else 8),  # BitsPerSample, or where those of three channels are
        (259, "H", 1, 1),  # not compressed
        (262, "H", 1, shown),  # PhotometricInterpretation
        (273, "I", 1, start),
        (277, "H", 1, count),
        (278, "H", 1, height),
        (279, "I", 1, len(data)),
        (339, "H", 1, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]) if count == 1 else (284, "H", 1, 1),
    ]
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], number)
        + (struct.pack(f"{order}I", value) if kind == "I" or number > 2 else struct.pack(f"{order}HH", value, 0))
        for tag, kind, number, value in sorted(fields)
    )
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start + len(data))
    depths = struct.pack(f"{order}{count}H", *[depth] * count)
    return header + depths + data + struct.pack(f"{order}H", len(fields)) + entries + struct.pack(f"{order}I", 0)


def write_class(folder: Path, number: int, count: int, **size: int) -> None:
    """``count`` pictures, every fourth of them a PNG, a grey JPEG or a PNG with a palette."""
    folder.mkdir(parents=True)
    for i in range(count):
        image = picture(1000 * number + i, **size)
        match i % 16:
            case 3:
                image.save(folder / f"{i}.png")
            case 7:
                image.convert("L").save(folder / f"{i}.JPEG")
            case 11:
                image.quantize(8).save(folder / f"{i}.PNG")
            case 15:
                image.save(folder / f"{i}.bmp")
            case _:
                image.save(folder / f"{i}.jpg", quality=95)


def write_dataset(root: Path, train: int = 20, test: int = 4, **size: int) -> Path:
    """Train and val folders of `CLASSES`, with so many pictures a class."""
    for label, name in enumerate(CLASSES):
        write_class(root / "train" / name, label, train, **size)
        write_class(root / "val" / name, 100 + label, test, **size)
    return root


def declared(**changes: Any) -> dict[str, Any]:
    """The declaration of what `write_dataset` writes."""
    given = {
        "origin": "made for a test",
        "licence": "none needed",
        "folder": "small",
        "validation": 12,
        "test": "val",
        "size": 16,
        "classes": 3,
        "sizes": {"train": 48, "validation": 12, "test": 12},
    }
    return given | changes


def declare(workdir: Path, name: str = "small", **changes: Any) -> Path:
    """Write a declaration to the working directory's config/datasets."""
    file = workdir / "config" / "datasets" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(declared(**changes)))
    return file
