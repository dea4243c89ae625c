"""A declaration of a folder of class folders, written from what lies in it."""

import os
import struct
from pathlib import Path

import yaml

from rdp.data.listing import classes_of, listing
from rdp.data.sources.image_folders import Declaration
from rdp.errors import UserError
from rdp.utils import paths

_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_SHARE = 10  # of the training images, one in so many is set aside for a split that has no folder
_LOOKED_AT = 20  # images whose size is looked at
_USUAL = 224  # pixels a side, where images are of many sizes


def describe(folder: Path) -> str:
    """The text of a file for ``config/datasets/`` that declares the images in ``folder``.

    A folder without a sub-folder to train on is taken for the class folders themselves. A lone validation folder is the
    test split, and validation images are set aside: published test labels are rare, and nothing is selected on them.

    Raises:
        UserError: no folder, or no class folders with images in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = {split: next((n for n in names if (folder / n).is_dir()), None) for split, names in _NAMES.items()}
    if found["train"] is None:
        found = {"train": ".", "validation": None, "test": None}
    if found["test"] is None:
        found["test"], found["validation"] = found["validation"], None
    classes = classes_of(folder / str(found["train"]))
    if len(classes) < 2:
        raise UserError(f"{folder / str(found['train'])}: 2 class folders or more are needed, found {len(classes)}")
    train = listing(folder, str(found["train"]), classes)
    sizes, rest = {}, len(train)
    for split in ("validation", "test"):
        where = found[split]
        sizes[split] = max(1, len(train) // _SHARE) if where is None else len(listing(folder, where, classes))
        rest -= sizes[split] if where is None else 0
    if rest < 1:
        raise UserError(f"{folder}: too few images to set some aside: {len(train)}")
    content = {
        "origin": folder.resolve().name,
        "licence": "unknown",
        "folder": _below_data(folder),
        "train": found["train"],
        "validation": found["validation"] or sizes["validation"],
        "test": found["test"] or sizes["test"],
        "size": _side([folder / name for name, _ in train[:: max(1, len(train) // _LOOKED_AT)]]),
        "classes": len(classes),
        "sizes": {"train": rest} | sizes,
    }
    Declaration(**content)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def _below_data(folder: Path) -> str:
    """The folder's path below RDP_DATA where it is there, so that the declaration serves other machines too."""
    path, data = folder.resolve(), paths.datasets().resolve()
    return os.fspath(path.relative_to(data) if path.is_relative_to(data) else path)


def _side(files: list[Path]) -> int:
    """Pixels a side of square images of one size; else what is usual for photographs."""
    from PIL import Image

    sizes = set()
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.add(image.size)
        except (OSError, ValueError, SyntaxError, struct.error):  # `rdp data prepare` will name it
            continue
    square = {width for width, height in sizes if width == height}
    return square.pop() if len(sizes) == len(square) == 1 else _USUAL
