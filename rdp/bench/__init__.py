"""Measurements of speed: side by side in one process, in alternation, medians with intervals."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rdp import fingerprint, rng
from rdp.runner import choose_device
from rdp.spec import Recipe
from rdp.train import make_deterministic, make_optimizer

SHAPE, CLASSES = (3, 32, 32), 10
WARM_UP = 2  # rounds that are not counted: first calls choose kernels and allocate
_RESAMPLES = 2000
_SGD = Recipe(learning_rate=1e-3)


@dataclass(frozen=True)
class Ratio:
    """A median over rounds, with the 95 % percentile interval of its bootstrap."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Ratio":
        """The median of ``values``, shape (rounds,)."""
        draws = rng.generator(0, "bootstrap").choice(values, (_RESAMPLES, len(values)))
        low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
        return cls(float(np.median(values)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Setting:
    """Where something is measured: the device, and the ``facts`` that stand beside every figure."""

    device: torch.device
    facts: dict[str, Any]

    @classmethod
    def of(cls, device: str, threads: int) -> "Setting":
        """Set this process up to measure as runs train, on ``auto``, ``cpu`` or ``cuda``."""
        chosen = choose_device(device)
        make_deterministic(threads)
        facts = {"stack": fingerprint.stack(chosen), "threads": threads, "shape": SHAPE}
        return cls(torch.device(chosen), facts)

    def __str__(self) -> str:
        threads = self.facts["threads"]
        return f"{self.facts['stack']['device']}, {threads} thread{'' if threads == 1 else 's'}"


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that some work takes, what it left to the device included."""

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    finish()
    started = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - started


def alternate(work: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, np.ndarray]:
    """Seconds of each piece of work in each round, shape (rounds,).

    Every round does all of them once, and starts with another one, so that a machine that slows down or speeds up
    favours none.
    """
    names = list(work)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(WARM_UP + rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            seconds[name].append(timed(work[name], device))
    return {name: np.array(found[WARM_UP:]) for name, found in seconds.items()}


def images(batch_size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """A mini-batch that stays on the device: noise of `SHAPE`, channels last, and labels."""
    draw = rng.generator(0, "bench")
    x = torch.from_numpy(draw.standard_normal((batch_size, *SHAPE), dtype=np.float32)).to(device)
    y = torch.from_numpy(draw.integers(0, CLASSES, batch_size)).to(device)
    return x.contiguous(memory_format=torch.channels_last), y


def trainer(network: nn.Module, x: torch.Tensor, y: torch.Tensor, recipe: Recipe = _SGD) -> Callable[[], None]:
    """A function that does one training step: forward, backward and a step of the recipe's optimizer."""
    optimizer = make_optimizer(network, recipe)
    half = recipe.precision == "bfloat16"

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
