"""What all benchmarks share: how something is timed, the statistics of times, and what is written of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
WARM_UP = 2  # rounds that are not counted: first calls choose kernels and allocate
_RESAMPLES = 2000


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
    """Where and how something is timed.

    Attributes:
        device: where networks are.
        threads: of the CPU.
        precision: of networks and their gradients, as in `Recipe`.
        batch_size: images in a mini-batch.
        rounds: how often each is timed.
        rate: the droppath of iterations that drop.
        smoke: whether only the harness is tried, on as little as will do.
    """

    device: torch.device
    threads: int
    precision: str
    batch_size: int
    rounds: int
    rate: float = 0.2
    smoke: bool = False

    @classmethod
    def of(cls, *, device: str, threads: int, rate: float = 0.2, **rest: Any) -> "Setting":
        """Set this process up to measure as runs train, on ``auto``, ``cpu`` or ``cuda``."""
        if not 0 < rate < 1:
            raise UserError(f"bench: a rate in (0, 1) is needed, found {rate}")
        chosen = torch.device(choose_device(device))
        make_deterministic(threads)
        return cls(chosen, threads, rate=rate, **rest)

    @property
    def recipe(self) -> Recipe:
        """SGD in the setting's batch size and precision."""
        return Recipe(learning_rate=1e-3, batch_size=self.batch_size, precision=self.precision, channels_last=True)

    def __str__(self) -> str:
        of_cpu = count(self.threads, "thread")
        name = fingerprint.stack(self.device.type)["device"]
        return f"{name}, {of_cpu}, {self.precision}, batch {self.batch_size}, {self.rounds} rounds"


@dataclass(frozen=True)
class Comparison:
    """One ratio that a benchmark is read by, and the bar that it is held to, where there is one.

    Attributes:
        subject: what it is of, such as ``resnet20``.
        least, most: the bar, whose ends belong to it; None where that side is open.
    """

    subject: str
    ratio: Ratio
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark found.

    Attributes:
        title: what over what, for a table or an axis.
        rows: every figure of it.
        table: of the rows, for a terminal.
        comparisons: what it is read by; none where it has no ratios.
    """

    title: str
    rows: Sequence[Any]
    table: Table
    comparisons: Sequence[Comparison] = ()

    def save(self, name: str, setting: Setting, results: Path) -> Path:
        """Write ``bench/NAME.json``: the figures, with machine, versions and commit."""
        path = results / "bench" / f"{name}.json"
        where = {"stack": fingerprint.stack(setting.device.type), "system": machine.system(), **machine.size()}
        how = asdict(setting) | {"device": setting.device.type, "shape": SHAPE}
        of = {"measured": timestamp(time.time()), "commit": machine.commit(), "versions": machine.versions()}
        found = {"comparisons": [asdict(row) for row in self.comparisons], "rows": [asdict(row) for row in self.rows]}
        sealed.write_json(path, {"title": self.title, "machine": where, "setting": how, **of, **found}, "bench")
        return path


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


def images(setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """A mini-batch that stays on the device: noise of `SHAPE`, channels last, and labels."""
    draw = rng.generator(0, "bench")
    x = torch.from_numpy(draw.standard_normal((setting.batch_size, *SHAPE), dtype=np.float32)).to(setting.device)
    y = torch.from_numpy(draw.integers(0, CLASSES, setting.batch_size)).to(setting.device)
    return x.contiguous(memory_format=torch.channels_last), y


def trainer(network: nn.Module, setting: Setting, recipe: Recipe | None = None) -> Callable[[], None]:
    """A function that does one training step on `images`: forward, backward and a step of the recipe's optimizer."""
    x, y = images(setting)
    recipe = recipe or setting.recipe
    optimizer = make_optimizer(network, recipe)
    half = recipe.precision == "bfloat16"

    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step(recipe.learning_rate)

    return step


def stepper(run: Trainer, steps: int) -> Callable[[], None]:
    """A function that takes a run some steps on, with the look at the clock that follows each."""

    def work() -> None:
        for _ in range(steps):
            run.train_step()
            run.step = (run.step + 1) % run.steps
            time.monotonic()

    return work


def table(title: str, *columns: str, caption: str | None = None) -> Table:
    """An empty table as all benchmarks show theirs."""
    return Table(*columns, title=title, title_justify="left", caption=caption, caption_justify="left")
