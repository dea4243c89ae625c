"""A dataset's properties, and its examples as training, evaluation and probes read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DatasetInfo:
    """Properties of a dataset that are known before it is read.

    Attributes:
        kind: ``image`` (uint8, channels x height x width) or ``vector`` (float32 features).
        shape: shape of one example.
        classes: number of classes.
        sizes: number of examples in each of train, validation and test.
        origin: where the data come from, with a citation.
        licence: the terms of use, as far as the origin states them.
        get: instructions for getting the data if ``rdp data fetch`` cannot.
        download_bytes: size of the download; 0 if there is none or it is unknown.
    """

    kind: Literal["image", "vector"]
    shape: tuple[int, ...]
    classes: int
    sizes: dict[str, int]
    origin: str
    licence: str
    get: str = ""
    download_bytes: int = 0

    @property
    def chance(self) -> float:
        """The accuracy of guessing, 1 / classes."""
        return 1 / self.classes


@dataclass(frozen=True)
class Prepared:
    """A dataset ready for training.

    Attributes:
        name: name of the dataset.
        info: its properties.
        arrays: ``train_x``, ``train_y``, ``validation_x``, …: uint8 images (n, channels, height, width) or
            float32 features (n, d), and int64 labels (n,).
        mean, std: moments of the training examples, per channel or feature, in the units of the arrays.
        digest: checksum of all arrays, the data digest of the run identity.
    """

    name: str
    info: DatasetInfo
    arrays: dict[str, np.ndarray]
    mean: np.ndarray
    std: np.ndarray
    digest: str

    def labels(self, split: str) -> np.ndarray:
        """The int64 labels of a split, shape (n,)."""
        return self.arrays[f"{split}_y"]

    def examples(self, split: str, indices: slice) -> np.ndarray:
        """Examples of a split, neither normalised nor augmented, shape (n, …)."""
        return self.arrays[f"{split}_x"][indices]

    def changed(self) -> Iterator[str]:
        """One line per image file that is missing or changed since preparation; none for data held in arrays."""
        yield from ()
