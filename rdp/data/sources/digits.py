"""The 8x8 handwritten digits that ship with scikit-learn."""

from pathlib import Path

import numpy as np

from rdp.data.dataset import SPLITS, DatasetInfo
from rdp.utils import rng

BUNDLED = "ships with scikit-learn"
DATASETS = {
    "digits": DatasetInfo(
        kind="image",
        shape=(1, 8, 8),
        classes=10,
        # Only 40 % for training, so that accuracy does not saturate.
        sizes={"train": 719, "validation": 359, "test": 719},
        origin="Optical Recognition of Handwritten Digits, test part (E. Alpaydin, C. Kaynak, UCI, 1998), "
        "as bundled with scikit-learn",
        licence="CC BY 4.0",
    )
}


def read(name: str, root: Path, download: bool) -> dict[str, np.ndarray]:
    """The images, with pixel values 0 to 16, in a fixed random order and cut into the three splits."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = rng.generator(0, "split/digits").permutation(len(bunch.target))
    images = bunch.images[order].astype(np.uint8)[:, None]
    labels = bunch.target[order].astype(np.int64)
    arrays, start = {}, 0
    for split in SPLITS:
        stop = start + DATASETS[name].sizes[split]
        arrays[f"{split}_x"], arrays[f"{split}_y"] = images[start:stop], labels[start:stop]
        start = stop
    return arrays
