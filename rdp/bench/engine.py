"""A training run beside the bare loop: the same network's forward, backward and step on a batch that never changes.

What a run does beyond that loop, and so pays for: the order of examples, crops and flips, normalisation, the
iteration's masks, the schedule of the learning rate, the loss and accuracy it keeps, the clock of checkpoints.
Evaluation and checkpoints are timed apart, and told as the share they have of a run.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from rdp import data
from rdp.bench.measuring import Benchmark, Comparison, Ratio, Setting, alternate, stepper, table, timed, trainer
from rdp.data.prepared import Prepared
from rdp.spec import Recipe, RunSpec
from rdp.training import checkpoint
from rdp.training.trainer import Trainer
from rdp.utils import rng

ARCHITECTURES = ("resnet20", "resnet56", "vit_tiny")
_STEPS = 4  # in a round, of each loop
_DATASET = "cifar10"  # its shapes and sizes; the images are noise, which takes as long
_TRAINED_ON, _EVALUATED_ON = 10_000, 1_000  # images of noise: more than the caches hold
_CHECKPOINT_SECONDS = 60
_BAR = 0.95


@dataclass(frozen=True)
class EngineSpeed:
    """A training run beside the bare loop.

    Attributes:
        throughput: the run's training throughput, as a multiple of the bare loop's; the bar is on it.
        bfloat16: throughput of the same run in bfloat16, as a multiple of the run's.
        step_seconds: a step of the run, the median.
        evaluation_share: of a run that validates after every epoch, the share of the time that this takes.
        checkpoint_share: of a run with a checkpoint a minute, the share of the time that these take.
    """

    architecture: str
    optimizer: str
    throughput: Ratio
    bfloat16: Ratio
    step_seconds: float
    evaluation_share: float
    checkpoint_share: float


def recipe(architecture: str, setting: Setting) -> Recipe:
    """The recipe that is timed: crops and flips, and AdamW for transformers."""
    optimizer = {"optimizer": "adamw", "weight_decay": 0.05} if architecture.startswith("vit") else {}
    return setting.recipe.model_copy(update=optimizer | {"crop_padding": 4, "flip": True})


@cache
def noise() -> Prepared:
    """Images and labels of CIFAR-10's shapes without anything in them."""
    info, draw = data.info(_DATASET), rng.generator(0, "bench")
    arrays = {}
    for split, size in {"train": _TRAINED_ON, "validation": _EVALUATED_ON}.items():
        arrays[f"{split}_x"] = draw.integers(0, 256, (size, *info.shape), dtype=np.uint8)
        arrays[f"{split}_y"] = draw.integers(0, info.classes, size)
    mean, std = np.full(info.shape[0], 127.5, np.float32), np.full(info.shape[0], 74.0, np.float32)
    return Prepared(_DATASET, info, arrays, mean, std, digest="noise")


def make_run(architecture: str, setting: Setting) -> Trainer:
    """A run of vanilla training on noise, ready for its first step."""
    made = recipe(architecture, setting)
    spec = RunSpec(dataset=_DATASET, architecture=architecture, method="vanilla", options={}, recipe=made, seed=0)
    run = Trainer(spec, noise(), setting.device)
    run.network.train()
    return run


def engine_speed(architecture: str, setting: Setting) -> EngineSpeed:
    """Time a run's steps and the bare loop's, in alternation."""
    run, other = (make_run(architecture, setting) for _ in range(2))
    half = make_run(architecture, replace(setting, precision="bfloat16"))
    step = trainer(other.network, setting, other.recipe)

    def bare() -> None:
        for _ in range(_STEPS):
            step()

    work = {"run": stepper(run, _STEPS), "bare": bare, "half": stepper(half, _STEPS)}
    seconds = alternate(work, setting.rounds, setting.device)
    step_seconds = float(np.median(seconds["run"])) / _STEPS
    sizes = run.data.info.sizes
    epoch = step_seconds * (sizes["train"] // setting.batch_size)
    evaluation = timed(lambda: run.evaluate("validation"), setting.device) * sizes["validation"] / _EVALUATED_ON
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
    """What one checkpoint takes, on the disk of temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        tensors, state = run.state()
        checkpoint.save(Path(folder), checkpoint.Checkpoint(run.step, {}, tensors, state))
        return time.perf_counter() - started


def run(setting: Setting) -> Benchmark:
    """Measure `ARCHITECTURES`."""
    found = [engine_speed(architecture, setting) for architecture in ARCHITECTURES]
    title = "Training throughput of a run, of the bare loop's"
    columns = ("architecture", "optimizer", "run / bare loop", "step", "in bfloat16", "evaluation", "checkpoints")
    caption = "in bfloat16: throughput, of that before; then shares of the time: evaluation after every epoch of "
    caption += "CIFAR-10, a checkpoint a minute"
    shown = table(f"{title}: {setting}", *columns, caption=caption)
    for row in found:
        shares = (f"{100 * share:.1f} %" for share in (row.evaluation_share, row.checkpoint_share))
        step = f"{row.step_seconds * 1e3:.1f} ms"
        shown.add_row(row.architecture, row.optimizer, str(row.throughput), step, str(row.bfloat16), *shares)
    return Benchmark(title, found, shown, [Comparison(row.architecture, row.throughput, _BAR) for row in found])
