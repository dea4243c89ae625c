"""Folders of class folders: list their images, and write a declaration for them."""

import os
import struct
from pathlib import Path
from typing import NamedTuple

import yaml

from rdp.data.sources.image_folders import Declaration
from rdp.errors import UserError, choices
from rdp.utils import paths

# The suffixes of torchvision's ImageFolder.
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))
# Folders that systems add to others' folders, some with small copies of the images.
_SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"))
_ANNOTATIONS = "val_annotations.txt"  # labels of Tiny-ImageNet's validation images, which have no class folders
_FOLDER_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_HELD_OUT = 10  # a split without a folder gets one in 10 training images
_SAMPLED = 20  # images whose size is read
_DEFAULT_SIZE = 224  # pixels a side, for images of different sizes


def class_names(folder: Path) -> list[str]:
    """The sorted names of the class folders in a folder. A class's label is its index in this list."""
    return sorted(entry.name for entry in _folders(folder) if not _is_loop(entry, folder))


class Listing(NamedTuple):
    """What class folders hold, by sorted paths relative to their root.

    Attributes:
        images: the paths of all image files, each with its label.
        loops: links to a folder that contains them, which are not followed.
    """

    images: list[tuple[str, int]]
    loops: list[str]


def list_images(root: Path, subfolder: str, classes: list[str]) -> Listing:
    """The image files in the class folders of ``subfolder``, a folder in ``root``.

    Includes nested folders and links to folders, but not links to a folder that contains them, directly or through
    other links. Ignores files with other suffixes, and at every depth hidden files and folders and those of systems.
    Raises `UserError` if the folder is missing, has an unknown class or no image, or a file name has control
    characters.
    """
    folder = root / subfolder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    annotations = folder / _ANNOTATIONS
    loops = [_relative(entry, root) for entry in _folders(folder) if _is_loop(entry, folder)]
    if annotations.is_file() and not set(class_names(folder)) & set(classes):
        images = _annotated(root, annotations, classes, loops)
    else:
        images = []
        for name in class_names(folder):
            label = _label(folder / name, name, classes)
            images += [(file, label) for file in _files(root, folder / name, loops)]
    if not images:
        raise UserError(f"{folder}: no images in class folders")
    return Listing(sorted(images), sorted(loops))


def _label(location: Path, name: str, classes: list[str]) -> int:
    if name not in classes:
        raise UserError(f"{location}: no class of the training images; {choices(name, classes[:20])}")
    return classes.index(name)


def _visible(name: str) -> bool:
    """Whether a file or folder is the user's: neither hidden, such as ``._x.png``, nor made by a system."""
    return not name.startswith(".") and name not in _SYSTEM_FOLDERS


def _folders(folder: Path) -> list[Path]:
    """The visible folders in a folder, and links to folders."""
    return [entry for entry in folder.iterdir() if _visible(entry.name) and entry.is_dir()]


def _is_loop(entry: Path, top: Path) -> bool:
    """Whether a folder in ``top`` is a link to a folder that contains it, also if it was reached by a link."""
    if not entry.is_symlink():
        return False
    target = Path(os.path.realpath(entry))
    between = [folder for folder in entry.parents if folder.is_relative_to(top)]
    return any(Path(os.path.realpath(folder)).is_relative_to(target) for folder in between)


def _files(root: Path, folder: Path, loops: list[str]) -> list[str]:
    """The paths of all image files in a folder, relative to ``root``; adds links that are not followed to ``loops``."""
    found = []
    for base, subfolders, files in os.walk(folder, followlinks=True):
        visible = [Path(base, name) for name in subfolders if _visible(name)]
        looping = [entry for entry in visible if _is_loop(entry, folder.parent)]
        loops += [_relative(entry, root) for entry in looping]
        subfolders[:] = [entry.name for entry in visible if entry not in looping]  # os.walk visits those that remain
        images = (name for name in files if _visible(name) and Path(name).suffix.lower() in SUFFIXES)
        found += [_relative(Path(base, name), root) for name in images]
    return found


def _relative(path: Path, root: Path) -> str:
    return os.fspath(paths.parse(os.path.relpath(path, root)))


def _annotated(root: Path, annotations: Path, classes: list[str], loops: list[str]) -> list[tuple[str, int]]:
    """Images labelled by a tab-separated file; its first columns are file name and class."""
    folder = annotations.parent / "images"
    labels: dict[str, int] = {}
    for number, line in enumerate(annotations.read_text(encoding="utf-8").splitlines(), 1):
        name, _, rest = line.partition("\t")
        labels[name] = _label(Path(f"{annotations}:{number}"), rest.partition("\t")[0], classes)
    files = {Path(name).name: name for name in _files(root, folder, loops)}
    if unmatched := sorted(labels.keys() ^ files.keys()):
        raise UserError(f"{folder}: {unmatched[0]} is not both there and in {_ANNOTATIONS}")
    return [(files[name], label) for name, label in labels.items()]


def describe(folder: Path) -> str:
    """A declaration of the images in ``folder``, as YAML text for ``config/datasets/``.

    A folder without a training sub-folder is taken as the folder of class folders. If there is a validation folder but
    no test folder, it becomes the test split and validation images are taken from the training set: published test
    labels are rare, and nothing may be selected on the test split.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    splits = {split: next((n for n in names if (folder / n).is_dir()), None) for split, names in _FOLDER_NAMES.items()}
    if splits["train"] is None:
        splits = {"train": ".", "validation": None, "test": None}
    if splits["test"] is None:
        splits["test"], splits["validation"] = splits["validation"], None
    classes = class_names(folder / str(splits["train"]))
    if len(classes) < 2:
        raise UserError(f"{folder / str(splits['train'])}: 2 class folders or more are needed, found {len(classes)}")
    train = list_images(folder, str(splits["train"]), classes).images
    sizes = {"train": len(train)}
    for split in ("validation", "test"):
        if subfolder := splits[split]:
            sizes[split] = len(list_images(folder, subfolder, classes).images)
        else:
            sizes[split] = max(1, len(train) // _HELD_OUT)
            sizes["train"] -= sizes[split]
    if sizes["train"] < 1:
        raise UserError(f"{folder}: too few images to hold some out: {len(train)}")
    content = {
        "origin": folder.resolve().name,
        "licence": "unknown",
        "folder": _relative_to_data(folder),
        "train": splits["train"],
        "validation": splits["validation"] or sizes["validation"],
        "test": splits["test"] or sizes["test"],
        "size": _image_size([folder / name for name, _ in train[:: max(1, len(train) // _SAMPLED)]]),
        "classes": len(classes),
        "sizes": sizes,
    }
    Declaration.model_validate(content)
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000))


def _relative_to_data(folder: Path) -> str:
    """The path relative to RDP_DATA if possible, so that the declaration is valid on other machines."""
    path, data = folder.resolve(), paths.datasets().resolve()
    return os.fspath(path.relative_to(data) if path.is_relative_to(data) else path)


def _image_size(files: list[Path]) -> int:
    """Pixels a side if all images are square and equal; otherwise the default."""
    from PIL import Image

    sizes = set()
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.add(image.size)
        except (OSError, ValueError, SyntaxError, struct.error):  # `rdp data prepare` names unreadable images
            continue
    square = {width for width, height in sizes if width == height}
    return square.pop() if len(sizes) == len(square) == 1 else _DEFAULT_SIZE
