"""A dataset as training, evaluation and probes read it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rdp.data.info import DatasetInfo


@dataclass(frozen=True)
class Prepared:
    """A dataset ready for training.

    Attributes:
        arrays: ``train_x``, ``train_y``, ``validation_x``, …: uint8 images (n, channels, height, width) or
            float32 features (n, d); int64 labels (n,).
        mean, std: of the training examples, per channel or feature, in the units of the arrays.
        digest: checksum of all arrays, the second digest of a run's identity.
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

    def examples(self, split: str, here: slice) -> np.ndarray:
        """Some examples of a split, neither normalised nor augmented, shape (n, …)."""
        return self.arrays[f"{split}_x"][here]

    def changed(self) -> Iterator[str]:
        """A line for each file that examples are read from as they are needed and that is not what it was: none."""
        yield from ()
