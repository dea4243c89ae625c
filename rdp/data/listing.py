"""What a folder of class folders holds: its classes, and its image files with their labels."""

import os
from pathlib import Path

from rdp.errors import UserError, choices
from rdp.utils import paths

# As torchvision's ImageFolder has them.
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))
_ANNOTATIONS = "val_annotations.txt"  # of Tiny-ImageNet, whose validation images have no class folders


def classes_of(folder: Path) -> list[str]:
    """The names of the class folders in a folder, sorted: a class's label is its place among them."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def listing(root: Path, part: str, classes: list[str]) -> list[tuple[str, int]]:
    """The path below ``root``, and the label, of every image file in a folder of class folders, sorted.

    Sub-folders of class folders count. So do links to folders. Files with other suffixes are no images.

    Args:
        root: the dataset's folder.
        part: the sub-folder that is listed.
        classes: the names of the class folders that it may have.

    Raises:
        UserError: the folder is absent, has a class that is not among ``classes``, holds no image, or one whose name is
            not fit to be shown.
    """
    folder = root / part
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    annotations = folder / _ANNOTATIONS
    if annotations.is_file() and not set(classes_of(folder)) & set(classes):
        found = _annotated(root, annotations, classes)
    else:
        found = []
        for name in classes_of(folder):
            label = _label(folder / name, name, classes)
            found += [(file, label) for file in _images(root, folder / name)]
    if not found:
        raise UserError(f"{folder}: no images in class folders")
    return sorted(found)


def _label(where: Path, name: str, classes: list[str]) -> int:
    if name not in classes:
        raise UserError(f"{where}: no class of the training images; {choices(name, classes[:20])}")
    return classes.index(name)


def _images(root: Path, folder: Path) -> list[str]:
    return [
        os.fspath(paths.parse(os.path.relpath(Path(base, file), root)))
        for base, _, files in os.walk(folder, followlinks=True)
        for file in files
        if Path(file).suffix.lower() in SUFFIXES
    ]


def _annotated(root: Path, annotations: Path, classes: list[str]) -> list[tuple[str, int]]:
    """Image files by a list of lines: the file's name, a tab, its class, and more that is of no use here."""
    folder = annotations.parent / "images"
    listed: dict[str, int] = {}
    for number, line in enumerate(annotations.read_text(encoding="utf-8").splitlines(), 1):
        name, _, rest = line.partition("\t")
        listed[name] = _label(Path(f"{annotations}:{number}"), rest.partition("\t")[0], classes)
    files = {Path(name).name: name for name in _images(root, folder)}
    if odd := sorted(listed.keys() ^ files.keys()):
        raise UserError(f"{folder}: {odd[0]} is not both there and in {_ANNOTATIONS}")
    return [(files[name], label) for name, label in listed.items()]
