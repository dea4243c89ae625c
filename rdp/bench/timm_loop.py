"""A training run beside the loop that a user of timm writes: timm's dataset, loader, transforms and optimizer.

Same network, batch size, precision and thread count. Beside timm's defaults (one worker that loads, images channels
first) the loop is timed with images channels last, which tells how much of a difference is the layout's.
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
_STEPS = 8  # in a round: a worker loads two batches ahead, in the time of the others
_WORKERS = 1


@dataclass(frozen=True)
class LoopSpeed:
    """A training run beside one of `LOOPS`.

    Attributes:
        throughput: the run's training throughput, as a multiple of the loop's; the bar is on the first loop's.
        step_seconds, loop_seconds: a step of the run and of the loop, the medians.
    """

    architecture: str
    loop: str
    workers: int
    throughput: Ratio
    step_seconds: float
    loop_seconds: float


def dataset(root: Path) -> Any:
    """timm's CIFAR-10, from the files that torchvision reads."""
    from timm.data import create_dataset

    try:
        return create_dataset("torch/cifar10", root=str(root), split="train", download=False)
    except RuntimeError as error:  # torchvision's, of absent and of altered files
        raise UserError(f"{root}: no CIFAR-10 for timm's loop ({error}); rdp data prepare cifar10 gets it") from None


def make_loader(images: Any, batch_size: int, device: torch.device) -> Any:
    """timm's loader: random resized crops and flips. Its colour jitter is left out, as no run here has it."""
    from timm.data import create_loader

    options = {"is_training": True, "color_jitter": None, "num_workers": _WORKERS, "device": device}
    return create_loader(images, input_size=SHAPE, batch_size=batch_size, **options)


def stepper_of_timm(
    network: nn.Module, loader: Any, layout: torch.memory_format, recipe: Recipe, steps: int
) -> Callable[[], None]:
    """A function that takes some steps of the loop of timm's documentation, with the loss looked at after the last."""
    from timm.optim import create_optimizer_v2

    options = {"lr": 1e-3, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    optimizer = create_optimizer_v2(network, opt=recipe.optimizer, **options)
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
            loss.backward()
            optimizer.step()
        loss.item()

    return work


def loop_speeds(architecture: str, images: Any, setting: Setting) -> list[LoopSpeed]:
    """Time a run's steps and those of each of `LOOPS`, in alternation."""
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
    """How many times the loop's throughput a run should have, at least."""
    if setting.device.type == "cpu":
        return 1.2
    return 5.0 if architecture == "resnet20" else 1.0


def run(setting: Setting) -> Benchmark:
    """Measure `ARCHITECTURES`. The bar is on the loop as timm's documentation has it."""
    images = dataset(paths.datasets())
    found = [row for name in ARCHITECTURES for row in loop_speeds(name, images, setting)]
    title = "Training throughput of a run, of a loop's with timm's loader"
    columns = ("architecture", "loop", "run / loop", "step of the run", "of the loop")
    caption = f"timm's loader has {_WORKERS} worker, a process beside the one that trains"
    shown = table(f"{title}: {setting}", *columns, caption=caption)
    comparisons = []
    for row in found:
        steps = (f"{seconds * 1e3:.1f} ms" for seconds in (row.step_seconds, row.loop_seconds))
        shown.add_row(row.architecture, row.loop, str(row.throughput), *steps)
        least = bar(row.architecture, setting) if row.loop == next(iter(LOOPS)) else None
        comparisons.append(Comparison(f"{row.architecture}, {row.loop}", row.throughput, least))
    return Benchmark(title, found, shown, comparisons)
