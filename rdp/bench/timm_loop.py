"""A training run beside the loop that a user of timm writes: timm's dataset, loader, transforms and optimizer.

Same network, batch size, precision and thread count. Beside timm's defaults (one worker that loads, images channels
first) the loop is timed with images channels last, which tells how much of a difference is the layout's.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import nn
from torch.nn import functional as F

from rdp import files, places
from rdp.bench import SHAPE, Ratio, Setting, alternate
from rdp.bench.engine import make_run, stepper
from rdp.errors import UserError
from rdp.spec import Recipe

ARCHITECTURES = ("resnet20", "resnet56", "vit_tiny")
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
    precision: str
    batch_size: int
    workers: int
    rounds: int
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


def loop_speeds(
    architecture: str, images: Any, *, batch_size: int, precision: str, rounds: int, device: torch.device
) -> list[LoopSpeed]:
    """Time a run's steps and those of each of `LOOPS`, in alternation."""
    work = {"run": stepper(make_run(architecture, batch_size, precision, device), _STEPS)}
    for name, layout in LOOPS.items():
        other, loader = make_run(architecture, batch_size, precision, device), make_loader(images, batch_size, device)
        work[name] = stepper_of_timm(other.network, loader, layout, other.recipe, _STEPS)
    seconds = alternate(work, rounds, device)
    return [
        LoopSpeed(
            architecture=architecture,
            loop=name,
            precision=precision,
            batch_size=batch_size,
            workers=_WORKERS,
            rounds=rounds,
            throughput=Ratio.of(seconds[name] / seconds["run"]),
            step_seconds=float(np.median(seconds["run"])) / _STEPS,
            loop_seconds=float(np.median(seconds[name])) / _STEPS,
        )
        for name in LOOPS
    ]


def run(
    *, batch_size: int, precision: str, rounds: int, threads: int, device: str, results: Path
) -> tuple[Table, Path]:
    """Measure `ARCHITECTURES`; return a table for the terminal, and where the figures are: ``bench/timm.json``."""
    setting = Setting.of(device, threads)
    options = {"batch_size": batch_size, "precision": precision, "rounds": rounds, "device": setting.device}
    images = dataset(places.datasets())
    found = [row for name in ARCHITECTURES for row in loop_speeds(name, images, **options)]
    path = results / "bench" / "timm.json"
    files.write_json(path, setting.facts | {"loops": [asdict(row) for row in found]})
    title = f"A training run beside a loop with timm's loader: {setting}, {precision}, batch {batch_size}"
    columns = ("architecture", "loop", "rounds", "run / loop", "step of the run", "of the loop")
    table = Table(*columns, title=title, title_justify="left")
    for row in found:
        steps = (f"{seconds * 1e3:.1f} ms" for seconds in (row.step_seconds, row.loop_seconds))
        table.add_row(row.architecture, row.loop, str(row.rounds), str(row.throughput), *steps)
    table.caption = f"timm's loader has {_WORKERS} worker, a process beside the one that trains"
    return table, path
