"""Folders of class folders declared in ``config/datasets/NAME.yaml``, such as ImageNet and Tiny-ImageNet.

The images stay in their folder. Preparation makes an index of them (`rdp.data.index`), and training decodes
mini-batches in parallel processes (`rdp.data.streaming`).
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from rdp.data.dataset import DatasetInfo
from rdp.errors import UserError
from rdp.utils import paths
from rdp.utils.validation import Strict, read_mapping, validate

BATCHES = "rdp.data.streaming"


class Sizes(Strict):
    """Number of images in each split."""

    train: int = Field(ge=1)
    validation: int = Field(ge=1)
    test: int = Field(ge=1)


class Declaration(Strict):
    """One YAML file in ``config/datasets/``."""

    origin: str = Field(min_length=1, description="source of the images, with a citation")
    licence: str = Field(min_length=1, description="terms of use, as far as the origin states them")
    get: str = Field("", description="instructions for getting the images, shown if they are missing")
    folder: str = Field(min_length=1, description="path relative to RDP_DATA, or absolute")
    train: str = Field("train", description="sub-folder with the class folders of the training images")
    validation: int | str = Field(description="sub-folder, or number of training images to hold out")
    test: int | str = Field(description="the same, for the test split")
    size: int = Field(ge=1, le=4096, description="height and width of the network input in pixels")
    classes: int = Field(ge=2, le=2**15)  # predictions are stored in 16 bits
    sizes: Sizes = Field(description="number of images in each split, including unreadable ones")
    exif_orientation: bool = Field(False, description="turn images as their EXIF data say")
    strict: bool = Field(
        False, description="an image that cannot be decoded, or is in two splits, is an error instead of a warning"
    )

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _count_or_folder(cls, value: Any) -> Any:
        """Replace pydantic's error, which has one message per member of the union."""
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not is_count and not (isinstance(value, str) and value):
            raise ValueError(f"a sub-folder or a number of images to hold out is needed, found {value!r}")
        return value

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Declaration":
        for split in ("validation", "test"):
            count, size = getattr(self, split), getattr(self.sizes, split)
            if isinstance(count, int) and count != size:
                raise ValueError(f"sizes.{split}: {size}, but {count} images are held out")
        return self

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return paths.datasets() / paths.parse(self.folder)

    @property
    def info(self) -> DatasetInfo:
        """The properties that planning needs."""
        shape = (3, self.size, self.size)
        sizes = self.sizes.model_dump()
        return DatasetInfo("image", shape, self.classes, sizes, self.origin, self.licence, self.get)

    @property
    def folders(self) -> list[Path]:
        """The sub-folders with images."""
        parts = (self.train, self.validation, self.test)
        return [self.root / name for name in dict.fromkeys(parts) if isinstance(name, str)]


class _Declared(Mapping[str, DatasetInfo]):
    """The declared datasets by name. Reads a file only on access, so that a damaged one affects no other dataset."""

    def __iter__(self) -> Iterator[str]:
        return iter(paths.declarations())

    def __len__(self) -> int:
        return len(paths.declarations())

    def __getitem__(self, name: str) -> DatasetInfo:
        return declaration(name).info


DATASETS = _Declared()


def files(name: str, root: Path) -> list[Path]:
    """The folders of a dataset, existing or not."""
    return declaration(name).folders


def declaration(name: str) -> Declaration:
    """The declaration of a dataset; raises `UserError` for an invalid file."""
    return _read(paths.declarations()[name].resolve())


@cache  # planning reads it for every run
def _read(file: Path) -> Declaration:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", file.stem):
        raise UserError(f"{file}: a dataset's file name is made of a-z, 0-9 and _, found '{file.stem}'")
    content = read_mapping(file, "a dataset is a mapping")
    try:
        return validate(Declaration, content, "")
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
