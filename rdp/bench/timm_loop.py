"""The training loop of a timm user: timm's CIFAR-10, loader, transforms and optimizer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from rdp.bench.measuring import SHAPE
from rdp.errors import UserError
from rdp.spec import Recipe

WORKERS = 1  # processes of the loader, timm's default

Steps = Callable[[int], None]  # runs a number of steps


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
        num_workers=WORKERS,
        device=device,
    )


def steps_of_timm(
    network: nn.Module, loader: Any, layout: torch.memory_format, recipe: Recipe, **optimizer_options: Any
) -> Steps:
    """Return a function that runs steps of the loop in timm's documentation and reads the loss of the last one."""
    import timm.optim

    create_optimizer: Any = timm.optim.create_optimizer_v2  # type: ignore[attr-defined] # not exported
    settings = {"lr": 1e-3, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay} | optimizer_options
    optimizer = create_optimizer(network, opt=recipe.optimizer, **settings)
    network.to(memory_format=layout).train()

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from loader

    source = batches()

    def work(steps: int) -> None:
        for _ in range(steps):
            x, y = next(source)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                loss = F.cross_entropy(network(x.contiguous(memory_format=layout)), y)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        loss.item()

    return work


@contextmanager
def unrestricted() -> Iterator[None]:
    """Context without the determinism of runs, which timm's loop does not ask for."""
    mode, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.backends.cudnn.benchmark = benchmark
