"""Two interleaved spirals in the plane, generated: the toy problem of arXiv 2411.09475, Figure 1."""

from pathlib import Path

import numpy as np

from rdp.data.dataset import SPLITS, DatasetInfo
from rdp.utils import rng

_TURNS = 1.75  # as in TensorFlow Playground
_NOISE = 0.1  # standard deviation of each coordinate at the outer radius, 1

BUNDLED = "generated"
DATASETS = {
    "spiral": DatasetInfo(
        kind="vector",
        shape=(2,),
        classes=2,
        sizes={"train": 500, "validation": 250, "test": 1000},
        origin="generated: two Archimedean spirals of 1.75 turns with Gaussian noise",
        licence="none needed",
    )
}


def read(name: str, root: Path, download: bool) -> dict[str, np.ndarray]:
    """Points of shape (n, 2), labelled by their arm, 0 or 1. Each split has its own random stream."""
    arrays = {}
    for split in SPLITS:
        generator = rng.generator(0, f"spiral/{split}")
        size = DATASETS[name].sizes[split]
        arm = generator.integers(0, 2, size)
        radius = generator.random(size)
        angle = 2 * np.pi * _TURNS * radius + np.pi * arm
        points = radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        points += _NOISE * radius[:, None] * generator.standard_normal((size, 2))
        arrays[f"{split}_x"], arrays[f"{split}_y"] = points.astype(np.float32), arm.astype(np.int64)
    return arrays
