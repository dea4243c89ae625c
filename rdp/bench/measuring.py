"""Timing in alternation, statistics of ratios, and the files of benchmarks."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from rich.table import Table
from torch import nn
from torch.nn import functional as F

from rdp.errors import UserError
from rdp.jobs.runner import choose_device
from rdp.spec import Recipe
from rdp.store import fingerprint, timestamp
from rdp.training.optimizers import make_optimizer
from rdp.training.trainer import Trainer, make_deterministic
from rdp.utils import machine, rng, sealed
from rdp.utils.humanize import count

SHAPE, CLASSES = (3, 32, 32), 10
WARM_UP = 2  # rounds to discard: first calls choose kernels and allocate memory
_RESAMPLES = 2000

K = TypeVar("K")


@dataclass(frozen=True)
class Ratio:
    """A median over rounds with its 95 % percentile bootstrap interval."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: "np.ndarray[Any, Any]") -> "Ratio":
        """Return the median of ``values``, shape (rounds,)."""
        draws = rng.generator(0, "bootstrap").choice(values, (_RESAMPLES, len(values)))
        low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
        return cls(float(np.median(values)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Setting:
    """The conditions of a measurement."""

    device: torch.device  # device of the networks
    threads: int  # number of CPU threads
    precision: Literal["float32", "bfloat16"]  # precision of networks and gradients, as in `Recipe`
    batch_size: int  # images in a mini-batch
    rounds: int  # measurements of each alternative
    rate: float = 0.2  # droppath rate of the deepest unit
    smoke: bool = False  # whether the figures mean nothing and only the code is tried

    @classmethod
    def of(cls, *, device: str, threads: int, rate: float = 0.2, **rest: Any) -> "Setting":
        """Make this process deterministic, as for training, and return its setting; ``device`` may be ``auto``.

        Raises:
            UserError: an unknown device, or a rate outside (0, 1).
        """
        if not 0 < rate < 1:
            raise UserError(f"bench: rate {rate}: a rate in (0, 1) is needed")
        chosen = torch.device(choose_device(device))
        make_deterministic(threads)
        return cls(chosen, threads, rate=rate, **rest)

    @property
    def recipe(self) -> Recipe:
        """SGD with the setting's batch size and precision."""
        return Recipe(learning_rate=1e-3, batch_size=self.batch_size, precision=self.precision, channels_last=True)

    def __str__(self) -> str:
        name, threads = fingerprint.stack(self.device.type)["device"], count(self.threads, "thread")
        return f"{name}, {threads}, {self.precision}, batch {self.batch_size}, {self.rounds} rounds"


@dataclass(frozen=True)
class Comparison:
    """A headline ratio of a benchmark, and its bar."""

    subject: str  # what was compared, such as ``resnet20``
    ratio: Ratio
    least: float | None = None  # ends of the bar, which are included; None for an open side
    most: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """The result of a benchmark."""

    title: str  # title of its table and axis
    rows: Sequence[Any]  # dataclasses with all figures
    table: Table  # the rows for a terminal
    comparisons: Sequence[Comparison] = ()  # the headline ratios; none if it has no ratios

    def save(self, name: str, setting: Setting, results: Path) -> Path:
        """Write the figures with machine, versions and commit to ``bench/NAME.json``, and return the path."""
        path = results / "bench" / f"{name}.json"
        stack = fingerprint.stack(setting.device.type)
        content = {
            "title": self.title,
            "machine": {"stack": stack, "system": machine.system(), **machine.size()},
            "setting": asdict(setting) | {"device": setting.device.type, "shape": SHAPE},
            "measured": timestamp(time.time()),
            "commit": machine.commit(),
            "versions": machine.versions(),
            "comparisons": [asdict(row) for row in self.comparisons],
            "rows": [asdict(row) for row in self.rows],
        }
        sealed.write_json(path, content, "bench")
        return path


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a function takes, including what it started on the device."""

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    finish()
    started = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - started


def alternate(
    work: Mapping[K, Callable[[], object]], rounds: int, device: torch.device
) -> "dict[K, np.ndarray[Any, Any]]":
    """Time functions in alternation and return the seconds of each, shape (rounds,).

    Every round calls all of them once and starts with another one, so that a change in the machine's speed favours
    none.
    """
    names = list(work)
    seconds: dict[K, list[float]] = {name: [] for name in names}
    for number in range(WARM_UP + rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            seconds[name].append(timed(work[name], device))
    return {name: np.array(times[WARM_UP:]) for name, times in seconds.items()}


def images(setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a mini-batch on the device: noise of `SHAPE`, channels last, and labels."""
    draw = rng.generator(0, "bench")
    x = torch.from_numpy(draw.standard_normal((setting.batch_size, *SHAPE), dtype=np.float32)).to(setting.device)
    y = torch.from_numpy(draw.integers(0, CLASSES, setting.batch_size)).to(setting.device)
    return x.contiguous(memory_format=torch.channels_last), y


def trainer(network: nn.Module, setting: Setting, recipe: Recipe | None = None) -> Callable[[], None]:
    """Return a function that runs one training step on `images`: forward, backward and optimizer step."""
    x, y = images(setting)
    recipe = recipe or setting.recipe
    optimizer = make_optimizer(network, recipe)
    half, rate = recipe.precision == "bfloat16", recipe.learning_rate or 0.0

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(network(x), y)
        torch.autograd.backward(loss)
        optimizer.step(rate)

    return step


def stepper(run: Trainer, steps: int) -> Callable[[], None]:
    """Return a function that runs training steps, each followed by the check of the clock, as in `rdp.jobs`."""

    def work() -> None:
        for _ in range(steps):
            run.train_step()
            run.step = (run.step + 1) % run.steps
            time.monotonic()

    return work


def table(title: str, *columns: str, caption: str | None = None) -> Table:
    """Return an empty table in the style of all benchmarks."""
    return Table(*columns, title=title, title_justify="left", caption=caption, caption_justify="left")
