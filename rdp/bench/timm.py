"""Benchmark `timm`: a training run against the usual timm loop: timm's dataset, loader, transforms and optimizer.

Network, batch size, precision and thread count are the same. The loop is timed with timm's defaults (one worker,
channels first) and with channels last, which separates the effect of the layout.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rdp.bench.engine import ARCHITECTURES, make_run
from rdp.bench.measuring import SHAPE, Benchmark, Comparison, Ratio, Setting, alternate, stepper, table
from rdp.errors import UserError
from rdp.spec import Recipe
from rdp.utils import paths

LOOPS = {"timm": torch.contiguous_format, "timm, channels last": torch.channels_last}
_STEPS = 8  # in a round, so that the two batches prefetched during the others' turns count little
_WORKERS = 1


@dataclass(frozen=True)
class LoopSpeed:
    """Speed of a training run and of one of `LOOPS`."""

    architecture: str
    loop: str  # a key of `LOOPS`
    workers: int  # number of processes of timm's loader
    throughput: Ratio  # training throughput of the run over the loop's; the bar is on the first loop
    step_seconds: float  # median time of a step of the run
    loop_seconds: float  # median time of a step of the loop


def dataset(root: Path) -> Any:
    """Return timm's CIFAR-10 from the files that torchvision reads; raise `UserError` without them."""
    from timm.data.dataset_factory import create_dataset

    try:
        return create_dataset("torch/cifar10", root=str(root), split="train", download=False)
    except RuntimeError as error:  # from torchvision, if files are missing or corrupt
        raise UserError(f"{root}: no CIFAR-10 for timm's loop ({error}); rdp data prepare cifar10 gets it") from None


def make_loader(images: Any, batch_size: int, device: torch.device) -> Any:
    """Return timm's loader with random resized crops and flips, without its colour jitter, which runs do not have."""
    from timm.data.loader import create_loader

    return create_loader(
        images,
        input_size=SHAPE,
        batch_size=batch_size,
        is_training=True,
        color_jitter=None,  # type: ignore[arg-type]  # 0.0 would run it to no effect
        num_workers=_WORKERS,
        device=device,
    )


def stepper_of_timm(
    network: nn.Module, loader: Any, layout: torch.memory_format, recipe: Recipe, steps: int
) -> Callable[[], None]:
    """Return a function that runs steps of the loop in timm's documentation and reads the loss of the last one."""
    import timm.optim

    create_optimizer: Any = timm.optim.create_optimizer_v2  # type: ignore[attr-defined] # not exported
    optimizer = create_optimizer(
        network, opt=recipe.optimizer, lr=1e-3, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    network.to(memory_format=layout).train()

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from loader

    source = batches()

    def work() -> None:
        for _ in range(steps):
            x, y = next(source)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                loss = F.cross_entropy(network(x.contiguous(memory_format=layout)), y)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        loss.item()

    return work


def loop_speeds(architecture: str, images: Any, setting: Setting) -> list[LoopSpeed]:
    """Time the steps of a run and of each of `LOOPS` in alternation."""
    work = {"run": stepper(make_run(architecture, setting), _STEPS)}
    for name, layout in LOOPS.items():
        other, loader = make_run(architecture, setting), make_loader(images, setting.batch_size, setting.device)
        work[name] = stepper_of_timm(other.network, loader, layout, other.recipe, _STEPS)
    seconds = alternate(work, setting.rounds, setting.device)
    return [
        LoopSpeed(
            architecture=architecture,
            loop=name,
            workers=_WORKERS,
            throughput=Ratio.of(seconds[name] / seconds["run"]),
            step_seconds=float(np.median(seconds["run"])) / _STEPS,
            loop_seconds=float(np.median(seconds[name])) / _STEPS,
        )
        for name in LOOPS
    ]


def bar(architecture: str, setting: Setting) -> float:
    """Return the least throughput of a run over the loop's that counts as a pass."""
    if setting.device.type == "cpu":
        return 1.2
    return 5.0 if architecture == "resnet20" else 1.0


def run(setting: Setting) -> Benchmark:
    """Time `ARCHITECTURES`. The bar is on the loop of timm's documentation."""
    images = dataset(paths.datasets())
    speeds = [row for name in ARCHITECTURES for row in loop_speeds(name, images, setting)]
    title = "Training throughput of a run over the timm loop's"
    columns = ("architecture", "loop", "run / loop", "step of the run", "step of the loop")
    caption = f"timm's loader has {_WORKERS} worker process"
    shown = table(f"{title}: {setting}", *columns, caption=caption)
    comparisons = []
    for row in speeds:
        steps = (f"{seconds * 1e3:.1f} ms" for seconds in (row.step_seconds, row.loop_seconds))
        shown.add_row(row.architecture, row.loop, str(row.throughput), *steps)
        least = bar(row.architecture, setting) if row.loop == next(iter(LOOPS)) else None
        comparisons.append(Comparison(f"{row.architecture}, {row.loop}", row.throughput, least))
    return Benchmark(title, speeds, shown, comparisons)
