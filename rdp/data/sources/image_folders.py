"""Folders of class folders, declared in ``config/datasets/NAME.yaml``: ImageNet, Tiny-ImageNet, or anybody's own.

Their images stay where they are. What is prepared is an index of them (`rdp.data.index`), and mini-batches are decoded
while training goes on (`rdp.data.streaming`).
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from rdp.data.info import DatasetInfo
from rdp.errors import UserError
from rdp.utils import paths
from rdp.utils.validation import Strict, read_mapping, validate

BATCHES = "rdp.data.streaming"


class Sizes(Strict):
    """Images of each split."""

    train: int = Field(ge=1)
    validation: int = Field(ge=1)
    test: int = Field(ge=1)


class Declaration(Strict):
    """One YAML file in ``config/datasets/``."""

    origin: str = Field(min_length=1, description="where the images come from, with a citation")
    licence: str = Field(min_length=1, description="the terms, as far as the origin states them")
    get: str = Field("", description="how to get the images, for the message where they are absent")
    folder: str = Field(min_length=1, description="below RDP_DATA, or an absolute path")
    train: str = Field("train", description="the sub-folder of class folders to train on")
    validation: int | str = Field(description="a sub-folder, or how many of the training images are set aside")
    test: int | str = Field(description="the same for the test split")
    size: int = Field(ge=1, le=4096, description="pixels a side of what networks are fed with")
    classes: int = Field(ge=2, le=2**15)  # predictions are kept in 16 bits
    sizes: Sizes = Field(description="images there should be in each split, the unreadable ones included")

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _count_or_folder(cls, value: Any) -> Any:
        """Say what is wrong in one sentence, where pydantic would tell what each half of the union wants."""
        number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not number and not (isinstance(value, str) and value):
            raise ValueError(f"a sub-folder is needed, or how many images are set aside, found {value!r}")
        return value

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Declaration":
        for split in ("validation", "test"):
            count, size = getattr(self, split), getattr(self.sizes, split)
            if isinstance(count, int) and count != size:
                raise ValueError(f"sizes.{split}: {size}, but {count} images are set aside")
        return self

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return paths.datasets() / paths.parse(self.folder)

    @property
    def info(self) -> DatasetInfo:
        """The facts that planning needs."""
        shape = (3, self.size, self.size)
        known = {"origin": self.origin, "licence": self.licence, "get": self.get}
        return DatasetInfo("image", shape, self.classes, self.sizes.model_dump(), **known)

    @property
    def folders(self) -> list[Path]:
        """The sub-folders that the images are in."""
        named = (self.train, self.validation, self.test)
        return [self.root / name for name in dict.fromkeys(named) if isinstance(name, str)]


class _Declared(Mapping[str, DatasetInfo]):
    """The declared datasets by name. A file is read when its dataset is asked for: a damaged one harms no other."""

    def __iter__(self) -> Iterator[str]:
        return iter(paths.declarations())

    def __len__(self) -> int:
        return len(paths.declarations())

    def __getitem__(self, name: str) -> DatasetInfo:
        return declaration(name).info


DATASETS = _Declared()


def files(name: str, root: Path) -> list[Path]:
    """The folders that a dataset is read from, there or not."""
    return declaration(name).folders


def declaration(name: str) -> Declaration:
    """What the file of the dataset called ``name`` says; raises `UserError` for a damaged one."""
    return _read(paths.declarations()[name].resolve())


@cache  # asked for with every run of a study
def _read(file: Path) -> Declaration:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", file.stem):
        raise UserError(f"{file}: a dataset's file name is made of a-z, 0-9 and _, found '{file.stem}'")
    content = read_mapping(file, "a dataset is a mapping")
    try:
        return validate(Declaration, content, "")
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
