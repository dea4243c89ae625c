"""A training run beside the bare loop: the same network's forward, backward and step on a batch that never changes.

What a run does beyond that loop, and so pays for: the order of examples, crops and flips, normalisation, the
iteration's masks, the schedule of the learning rate, the loss and accuracy it keeps, the clock of checkpoints.
Evaluation and checkpoints are timed apart, and told as the share they have of a run.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from rdp import checkpoint, data, files, rng
from rdp.bench import Ratio, Setting, alternate, images, timed, trainer
from rdp.data.prepared import Prepared
from rdp.spec import Recipe, RunSpec
from rdp.train import Run

ARCHITECTURES = ("resnet20", "resnet56", "vit_tiny")
_STEPS = 4  # in a round, of each loop
_DATASET = "cifar10"  # its shapes and sizes; the images are noise, which takes as long
_TRAINED_ON, _EVALUATED_ON = 10_000, 1_000  # images of noise: more than the caches hold
_CHECKPOINT_SECONDS = 60


@dataclass(frozen=True)
class EngineSpeed:
    """A training run beside the bare loop.

    Attributes:
        throughput: the run's training throughput, as a multiple of the bare loop's; the bar is on it.
        step_seconds: a step of the run, the median.
        evaluation_share: of a run that validates after every epoch, the share of the time that this takes.
        checkpoint_share: of a run with a checkpoint a minute, the share of the time that these take.
    """

    architecture: str
    optimizer: str
    precision: str
    batch_size: int
    rounds: int
    throughput: Ratio
    step_seconds: float
    evaluation_share: float
    checkpoint_share: float


def recipe(architecture: str, batch_size: int, precision: str) -> Recipe:
    """The recipe that is timed: crops and flips, and AdamW for transformers."""
    optimizer = {"optimizer": "adamw", "weight_decay": 0.05} if architecture.startswith("vit") else {}
    options = {"crop_padding": 4, "flip": True, "channels_last": True, "precision": precision}
    return Recipe(learning_rate=1e-3, batch_size=batch_size, **optimizer, **options)


def noise() -> Prepared:
    """Images and labels of CIFAR-10's shapes without anything in them."""
    info, draw = data.info(_DATASET), rng.generator(0, "bench")
    arrays = {}
    for split, size in {"train": _TRAINED_ON, "validation": _EVALUATED_ON}.items():
        arrays[f"{split}_x"] = draw.integers(0, 256, (size, *info.shape), dtype=np.uint8)
        arrays[f"{split}_y"] = draw.integers(0, info.classes, size)
    mean, std = np.full(info.shape[0], 127.5, np.float32), np.full(info.shape[0], 74.0, np.float32)
    return Prepared(_DATASET, info, arrays, mean, std, digest="noise")


def make_run(architecture: str, batch_size: int, precision: str, device: torch.device) -> Run:
    """A run of vanilla training on noise, ready for its first step."""
    made = recipe(architecture, batch_size, precision)
    spec = RunSpec(dataset=_DATASET, architecture=architecture, method="vanilla", options={}, recipe=made, seed=0)
    run = Run(spec, noise(), device)
    run.network.train()
    return run


def stepper(run: Run, steps: int) -> Callable[[], None]:
    """A function that takes the run some steps on, with the look at the clock that follows each."""

    def work() -> None:
        for _ in range(steps):
            run.train_step()
            run.step = (run.step + 1) % run.steps
            time.monotonic()

    return work


def engine_speed(
    architecture: str, *, batch_size: int, precision: str, rounds: int, device: torch.device
) -> EngineSpeed:
    """Time a run's steps and the bare loop's, in alternation."""
    run, other = (make_run(architecture, batch_size, precision, device) for _ in range(2))
    x, y = images(batch_size, device)
    step = trainer(other.network, x, y, other.recipe)

    def bare() -> None:
        for _ in range(_STEPS):
            step()

    seconds = alternate({"run": stepper(run, _STEPS), "bare": bare}, rounds, device)
    step_seconds = float(np.median(seconds["run"])) / _STEPS
    sizes = run.data.info.sizes
    epoch = step_seconds * (sizes["train"] // batch_size)
    evaluation = timed(lambda: run.evaluate("validation"), device) * sizes["validation"] / _EVALUATED_ON
    return EngineSpeed(
        architecture=architecture,
        optimizer=run.recipe.optimizer,
        precision=precision,
        batch_size=batch_size,
        rounds=rounds,
        throughput=Ratio.of(seconds["bare"] / seconds["run"]),
        step_seconds=step_seconds,
        evaluation_share=evaluation / (epoch + evaluation),
        checkpoint_share=_checkpoint_seconds(run) / _CHECKPOINT_SECONDS,
    )


def _checkpoint_seconds(run: Run) -> float:
    """What one checkpoint takes, on the disk of temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        tensors, state = run.state()
        checkpoint.save(Path(folder), checkpoint.Checkpoint(run.step, {}, tensors, state))
        return time.perf_counter() - started


def run(
    *, batch_size: int, precision: str, rounds: int, threads: int, device: str, results: Path
) -> tuple[Table, Path]:
    """Measure `ARCHITECTURES`; return a table for the terminal, and where the figures are: ``bench/engine.json``."""
    setting = Setting.of(device, threads)
    options = {"batch_size": batch_size, "precision": precision, "rounds": rounds, "device": setting.device}
    found = [engine_speed(architecture, **options) for architecture in ARCHITECTURES]
    path = results / "bench" / "engine.json"
    files.write_json(path, setting.facts | {"runs": [asdict(row) for row in found]})
    title = f"A training run beside the bare loop: {setting}, {precision}"
    columns = ("architecture", "optimizer", "batch", "rounds", "run / bare loop", "step", "evaluation", "checkpoints")
    table = Table(*columns, title=title, title_justify="left")
    for row in found:
        told = (row.architecture, row.optimizer, str(row.batch_size), str(row.rounds), str(row.throughput))
        shares = (f"{100 * share:.1f} %" for share in (row.evaluation_share, row.checkpoint_share))
        table.add_row(*told, f"{row.step_seconds * 1e3:.1f} ms", *shares)
    table.caption = "of the time: evaluation after every epoch of CIFAR-10, checkpoints once a minute"
    return table, path
