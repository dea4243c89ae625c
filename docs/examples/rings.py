"""Three concentric rings in the plane, generated."""

from pathlib import Path

import numpy as np

from rdp.data.dataset import SPLITS, DatasetInfo
from rdp.utils import rng

_NOISE = 0.1  # standard deviation of the radius; the rings' radii are 0.5, 1 and 1.5

BUNDLED = "generated"
DATASETS = {
    "rings": DatasetInfo(
        kind="vector",
        shape=(2,),
        classes=3,
        sizes={"train": 300, "validation": 300, "test": 1000},
        origin="generated: three circles with one centre, with Gaussian noise on the radius",
        licence="none needed",
    )
}


def read(name: str, root: Path, download: bool) -> dict[str, np.ndarray]:
    """Return points of shape (n, 2) and their rings, 0 to 2, drawn separately for each split."""
    arrays = {}
    for split in SPLITS:
        generator = rng.generator(0, f"rings/{split}")
        size = DATASETS[name].sizes[split]
        ring = generator.integers(0, 3, size)
        radius = 0.5 * (ring + 1) + _NOISE * generator.standard_normal(size)
        angle = 2 * np.pi * generator.random(size)
        points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        arrays[f"{split}_x"], arrays[f"{split}_y"] = points.astype(np.float32), ring.astype(np.int64)
    return arrays
