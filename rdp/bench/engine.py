"""Benchmark `engine`: a training run against the bare forward-backward-step loop on one fixed batch.

Beyond that loop a run shuffles examples, crops, flips and normalises them, draws masks, schedules the learning rate,
tracks loss and accuracy, and checks the time for checkpoints. Evaluation and checkpoints are timed separately, as
shares of a run.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rdp import data
from rdp.bench.measuring import Benchmark, Comparison, Ratio, Setting, alternate, stepper, table, timed, trainer
from rdp.data.dataset import Prepared
from rdp.spec import Recipe, RunSpec
from rdp.training import checkpoint
from rdp.training.trainer import Trainer
from rdp.utils import rng

ARCHITECTURES = ("resnet20", "resnet56", "vit_tiny")
_STEPS = 4  # of each loop in a round
_DATASET = "cifar10"  # for shapes and sizes; the images are noise, which takes as long
_TRAIN_SIZE, _EVALUATION_SIZE = 10_000, 1_000  # more images than the caches hold
_CHECKPOINT_SECONDS = 60
_BAR = 0.95


@dataclass(frozen=True)
class EngineSpeed:
    """Speed of a training run."""

    architecture: str
    optimizer: str
    throughput: Ratio  # training throughput of the run over the bare loop's; the bar is on it
    bfloat16: Ratio  # training throughput in bfloat16 over that in the setting's precision
    step_seconds: float  # median time of a step
    evaluation_share: float  # share of the time that validation after every epoch takes
    checkpoint_share: float  # share of the time that a checkpoint every minute takes


def recipe(architecture: str, setting: Setting) -> Recipe:
    """Return the recipe to time: crops and flips, and AdamW for transformers."""
    optimizer: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.05} if architecture.startswith("vit") else {}
    return setting.recipe.model_copy(update=optimizer | {"crop_padding": 4, "flip": True})


@cache
def noise() -> Prepared:
    """Return noise in the shapes of CIFAR-10 with random labels."""
    info, draw = data.info(_DATASET), rng.generator(0, "bench")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for split, size in {"train": _TRAIN_SIZE, "validation": _EVALUATION_SIZE}.items():
        arrays[f"{split}_x"] = draw.integers(0, 256, (size, *info.shape), dtype=np.uint8)
        arrays[f"{split}_y"] = draw.integers(0, info.classes, size)
    mean, std = np.full(info.shape[0], 127.5, np.float32), np.full(info.shape[0], 74.0, np.float32)
    return Prepared(_DATASET, info, arrays, mean, std, digest="noise")


def make_run(architecture: str, setting: Setting, **changes: Any) -> Trainer:
    """Return a run of vanilla training on noise, before its first step; ``changes`` replace parts of its recipe."""
    spec = RunSpec(
        dataset=_DATASET,
        architecture=architecture,
        method="vanilla",
        options={},
        recipe=recipe(architecture, setting).model_copy(update=changes),
        seed=0,
    )
    run = Trainer(spec, noise(), setting.device)
    run.network.train()
    return run


def engine_speed(architecture: str, setting: Setting) -> EngineSpeed:
    """Time the steps of a run and of the bare loop in alternation."""
    run, reference = (make_run(architecture, setting) for _ in range(2))
    half = make_run(architecture, replace(setting, precision="bfloat16"))
    step = trainer(reference.network, setting, reference.recipe)

    def bare() -> None:
        for _ in range(_STEPS):
            step()

    work = {"run": stepper(run, _STEPS), "bare": bare, "half": stepper(half, _STEPS)}
    seconds = alternate(work, setting.rounds, setting.device)
    step_seconds = float(np.median(seconds["run"])) / _STEPS
    sizes = run.data.info.sizes
    epoch = step_seconds * (sizes["train"] // setting.batch_size)
    evaluation = timed(lambda: run.evaluate("validation"), setting.device) * sizes["validation"] / _EVALUATION_SIZE
    return EngineSpeed(
        architecture=architecture,
        optimizer=run.recipe.optimizer,
        throughput=Ratio.of(seconds["bare"] / seconds["run"]),
        bfloat16=Ratio.of(seconds["run"] / seconds["half"]),
        step_seconds=step_seconds,
        evaluation_share=evaluation / (epoch + evaluation),
        checkpoint_share=_checkpoint_seconds(run) / _CHECKPOINT_SECONDS,
    )


def _checkpoint_seconds(run: Trainer) -> float:
    """Return the time of one checkpoint on the disk of temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        tensors, state = run.state()
        checkpoint.save(Path(folder), checkpoint.Checkpoint(run.step, {}, tensors, state))
        return time.perf_counter() - started


def run(setting: Setting) -> Benchmark:
    """Time `ARCHITECTURES`."""
    speeds = [engine_speed(architecture, setting) for architecture in ARCHITECTURES]
    title = "Training throughput of a run over the bare loop's"
    columns = ("architecture", "optimizer", "run / bare loop", "step", "in bfloat16", "evaluation", "checkpoints")
    caption = (
        "in bfloat16: throughput over that of the column before; then shares of the time: evaluation after every epoch "
        "of CIFAR-10, and a checkpoint every minute"
    )
    shown = table(f"{title}: {setting}", *columns, caption=caption)
    for row in speeds:
        shares = (f"{100 * share:.1f} %" for share in (row.evaluation_share, row.checkpoint_share))
        step = f"{row.step_seconds * 1e3:.1f} ms"
        shown.add_row(row.architecture, row.optimizer, str(row.throughput), step, str(row.bfloat16), *shares)
    return Benchmark(title, speeds, shown, [Comparison(row.architecture, row.throughput, _BAR) for row in speeds])
