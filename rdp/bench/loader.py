"""The loader of images that are streamed beside timm's, each feeding a network of one layer.

The same image files, transforms, batch size and number of worker processes. So small a network trains in no time, so
that what is compared is how fast images come.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from rdp.bench.measuring import Benchmark, Comparison, Ratio, Setting, alternate, table
from rdp.bench.timm_loop import stepper_of_timm
from rdp.data import augment, prepared, workers
from rdp.data.streaming import TrainingBatches
from rdp.spec import Recipe
from rdp.utils import paths

DATASET = "tiny_imagenet_20"
TRANSFORMS = {"crop, flip": None, "crop, flip, RandAugment": "rand-m9-mstd0.5-inc1"}
_CROP = 0.08  # timm's default
_STEPS = 60  # in a round: a worker makes some batches ahead, in the time of the other loader
_BAR = 1.0


@dataclass(frozen=True)
class LoaderSpeed:
    """How fast images come, in training a network of one layer.

    Attributes:
        transforms: what is done to them, of `TRANSFORMS`.
        workers: processes that do it, in either loader.
        throughput: images a second of this project's loader, as a multiple of timm's.
        images, timm_images: a second, the medians.
    """

    transforms: str
    workers: int
    throughput: Ratio
    images: float
    timm_images: float


class Batches:
    """Mini-batches one after another, over and over, as timm's loop takes them."""

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches, self.step = batches, 0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield self.batches.batch(self.step)
            self.step += 1


def timm_loader(data: Any, recipe: Recipe, device: torch.device) -> Any:
    """timm's loader of the training images of ``data``, with a recipe's transforms."""
    from timm.data import create_dataset, create_loader
    from timm.data.auto_augment import RandAugment

    options = {"scale": (recipe.resized_crop, 1.0), "interpolation": "bilinear", "color_jitter": None}
    loader = create_loader(
        create_dataset("", root=str(data.root / "train")),
        input_size=data.info.shape,
        batch_size=recipe.batch_size,
        is_training=True,
        auto_augment=recipe.randaugment,
        num_workers=workers.count(),
        device=device,
        **options,
    )
    for transform in loader.dataset.transform.transforms:
        if isinstance(transform, RandAugment):
            augment.patch_posterize(transform)
    return loader


def loader_speed(transforms: str, data: Any, setting: Setting) -> LoaderSpeed:
    """Time both loaders in alternation."""
    recipe = Recipe(
        learning_rate=1e-3,
        batch_size=setting.batch_size,
        resized_crop=_CROP,
        flip=True,
        randaugment=TRANSFORMS[transforms],
    )
    steps = 2 if setting.smoke else _STEPS
    batches = TrainingBatches(data, recipe, 0, setting.device)

    def work(loader: Any) -> Callable[[], None]:
        network = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(data.info.shape)), data.info.classes))
        return stepper_of_timm(network.to(setting.device), loader, torch.contiguous_format, recipe, steps)

    try:
        both = {"rdp": work(Batches(batches)), "timm": work(timm_loader(data, recipe, setting.device))}
        seconds = alternate(both, setting.rounds, setting.device)
    finally:
        batches.close()
    images = steps * setting.batch_size
    throughput = Ratio.of(seconds["timm"] / seconds["rdp"])
    speeds = [images / float(np.median(seconds[name])) for name in ("rdp", "timm")]
    return LoaderSpeed(transforms, workers.count(), throughput, *speeds)


def run(setting: Setting) -> Benchmark:
    """Measure `TRANSFORMS`."""
    data = prepared.load(DATASET, paths.results())
    found = [loader_speed(name, data, setting) for name in TRANSFORMS]
    title = "Images a second of this project's loader, of timm's"
    columns = ("transforms", "workers", "rdp / timm", "images a second", "timm's")
    shown = table(f"{title}: {setting}", *columns, caption="feeding a network of one layer with Tiny-ImageNet's images")
    for row in found:
        speeds = (f"{images:,.0f}" for images in (row.images, row.timm_images))
        shown.add_row(row.transforms, str(row.workers), str(row.throughput), *speeds)
    return Benchmark(title, found, shown, [Comparison(row.transforms, row.throughput, _BAR) for row in found])
