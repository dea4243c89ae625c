"""Benchmark `loader`: the loader of streamed images against timm's, each feeding a network of one layer.

Both read the same files with the same transforms, batch size and number of workers. The network is so small that the
loaders determine the throughput.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from rdp.bench.measuring import Benchmark, Comparison, Ratio, Setting, alternate, table
from rdp.bench.timm_loop import steps_of_timm
from rdp.data import augment, prepared, workers
from rdp.data.streaming import TrainingBatches
from rdp.spec import Recipe
from rdp.utils import paths

DATASET = "tiny_imagenet_20"
TRANSFORMS = {"crop, flip": None, "crop, flip, RandAugment": "rand-m9-mstd0.5-inc1"}
_CROP = 0.08  # timm's default
_STEPS = 60  # in a round, so that batches prefetched during the other loader's turn count little
_BAR = 1.0


@dataclass(frozen=True)
class LoaderSpeed:
    """Throughput of both loaders for one pipeline of transforms."""

    transforms: str  # a key of `TRANSFORMS`
    workers: int  # number of processes of each loader
    throughput: Ratio  # this project's throughput over timm's
    images: float  # median images per second
    timm_images: float


class Batches:
    """An endless iterator of mini-batches, as timm's loop expects."""

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches, self.step = batches, 0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield self.batches.batch(self.step)
            self.step += 1


def timm_loader(data: Any, recipe: Recipe, device: torch.device) -> Any:
    """Return timm's loader of the training images of ``data`` with a recipe's transforms."""
    from timm.data.auto_augment import RandAugment
    from timm.data.dataset_factory import create_dataset
    from timm.data.loader import create_loader

    loader = create_loader(
        create_dataset("", root=str(data.root / "train")),
        input_size=data.info.shape,
        batch_size=recipe.batch_size,
        is_training=True,
        auto_augment=recipe.randaugment,
        num_workers=workers.count(),
        device=device,
        scale=(_CROP, 1.0),
        interpolation="bilinear",
        color_jitter=None,  # type: ignore[arg-type]  # 0.0 would run it to no effect
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
        step = steps_of_timm(network.to(setting.device), loader, torch.contiguous_format, recipe)
        return partial(step, steps)

    try:
        both = {"rdp": work(Batches(batches)), "timm": work(timm_loader(data, recipe, setting.device))}
        seconds = alternate(both, setting.rounds, setting.device)
    finally:
        batches.close()
    images = steps * setting.batch_size
    throughput = Ratio.of(seconds["timm"] / seconds["rdp"])
    rates = {name: images / float(np.median(times)) for name, times in seconds.items()}
    return LoaderSpeed(transforms, workers.count(), throughput, rates["rdp"], rates["timm"])


def run(setting: Setting) -> Benchmark:
    """Time both loaders with each of `TRANSFORMS`."""
    data = prepared.load(DATASET, paths.results())
    speeds = [loader_speed(name, data, setting) for name in TRANSFORMS]
    title = "Images per second of this project's loader over timm's"
    columns = ("transforms", "workers", "rdp / timm", "images per second", "timm's")
    shown = table(f"{title}: {setting}", *columns, caption="feeding a network of one layer with Tiny-ImageNet's images")
    for row in speeds:
        rates = (f"{images:,.0f}" for images in (row.images, row.timm_images))
        shown.add_row(row.transforms, str(row.workers), str(row.throughput), *rates)
    return Benchmark(title, speeds, shown, [Comparison(row.transforms, row.throughput, _BAR) for row in speeds])
