"""The training loop. It reads top to bottom: make the network, then batch, forward, backward, step."""

import hashlib
import importlib
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from rdp import data
from rdp.methods import FULL, Iteration
from rdp.models import build
from rdp.models.units import Units
from rdp.training import cost
from rdp.training.ema import Average
from rdp.training.optimizers import learning_rate, make_optimizer
from rdp.training.process_group import ALONE, World

if TYPE_CHECKING:
    from rdp.data.dataset import Prepared
    from rdp.spec import RunSpec
    from rdp.training.checkpoint import Checkpoint

_EVALUATION_BATCH = 500


def make_deterministic(threads: int) -> None:
    """Set this process up so that the same run gives the same bits."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The function named after it (use_deterministic_algorithms) imports torch's compiler, which takes seconds.
    torch.set_deterministic_debug_mode("error")
    # Filling uninitialised memory costs time and guards only against reading it, which no operation here does.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # a recipe that says float32 means it
    torch.set_num_threads(threads)
    # Vanishing gradients of deep plain nets are denormal numbers, which are slow to compute with.
    torch.set_flush_denormal(True)


class Run:
    """One network in training: a `RunSpec` brought to life on a device.

    Args:
        spec: what to train.
        dataset: its dataset.
        device: where.
        learning_rate: the rate that the spec's sweep chose; needed where the spec has one.
        world: the processes that train it together.

    Attributes:
        step: optimizer steps done.
        steps: optimizer steps in all.
        history: one row an epoch done.
        diverged_step: the first step whose loss was not finite, or None.
        epoch_seconds, evaluate_seconds: time spent in each epoch and in evaluation, for telemetry.
    """

    def __init__(
        self,
        spec: "RunSpec",
        dataset: "Prepared",
        device: torch.device,
        learning_rate: float | None = None,
        world: World = ALONE,
    ) -> None:
        self.spec, self.data, self.device, self.world = spec, dataset, device, world
        self.recipe, self.method = spec.recipe, spec.instance
        if learning_rate is not None:
            self.recipe = self.recipe.model_copy(update={"learning_rate": learning_rate})
        if self.recipe.learning_rate is None:
            raise ValueError(f"{spec.run}: its learning rate is chosen by a sweep, and must be given")
        self._construction = {
            "name": spec.architecture,
            "path": self.method.path,
            "path_options": self.method.path_options(),
            "norm_gain": self.recipe.norm_gain,
            "input_shape": dataset.info.shape,
            "classes": dataset.info.classes,
        }
        self.network = build(**self._construction, seed=spec.seed).to(device)
        if self.recipe.channels_last and dataset.info.kind == "image":
            self.network.to(memory_format=torch.channels_last)
        self.units = Units(self.network, self.method.unit_granularity)
        if self.method.drops_units:
            self.units.require()
        self.optimizer = make_optimizer(self.network, self.recipe)
        self.average = Average(self.network, self.recipe.ema) if self.recipe.ema else None
        self._forward = world.join(self.network, device, freezes=self.method.drops_units)
        self._parts = world.parts(self.recipe.batch_size, self.recipe.accumulate)
        # By name, so that no run's code digest holds what it does not use.
        self.batches = importlib.import_module(data.batches_module(spec.dataset)).TrainingBatches(
            dataset, self.recipe, spec.seed, device
        )
        self._mix = None
        if self.recipe.mixes:
            mixing = importlib.import_module("rdp.training.mixup")
            self._mix = mixing.Mixing(self.recipe, dataset.info.classes, spec.seed)
        self.steps = self._count_steps()
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.diverged_step: int | None = None
        self.epoch_seconds: list[float] = []
        self.evaluate_seconds = 0.0
        # Losses stay on the device and are looked at once an epoch: the step never waits for the host.
        self._losses = torch.zeros(self.batches.steps_per_epoch, device=device)
        self._correct = torch.zeros(self.batches.steps_per_epoch, dtype=torch.int64, device=device)

    @cached_property
    def iteration_cost(self) -> cost.IterationCost:
        """Floating-point operations of an iteration of this network."""
        return _cost(json.dumps(self._construction), self.method.unit_granularity)

    def iteration(self, step: int) -> Iteration:
        """What a step computes and trains."""
        size = self.recipe.batch_size
        return self.method.iteration(step, units=len(self.units), batch_size=size, seed=self.spec.seed)

    def _count_steps(self) -> int:
        """The steps that the recipe's epochs stand for, see `Recipe.budget`."""
        nominal = self.recipe.epochs * self.batches.steps_per_epoch
        if self.recipe.budget == "steps":
            return nominal
        spend = self.iteration_cost if self.recipe.budget == "flops" else self.iteration_cost.updates
        budget = nominal * spend(FULL)
        rounding = 1e-9 * budget  # shares of parameters do not add up to the last bit
        steps, spent = 0, 0.0
        while spent < budget - rounding and spent + (more := spend(self.iteration(steps))) <= budget + rounding:
            steps, spent = steps + 1, spent + more
        return max(steps, 1)

    def train(self, after_step: Callable[["Run"], None]) -> None:
        """Train from where the run stands to its end, or until its loss is not finite."""
        per_epoch = self.batches.steps_per_epoch
        self.network.train()
        started = time.perf_counter()
        while self.step < self.steps and self.diverged_step is None:
            self.train_step()
            self.step += 1
            if self.step % per_epoch == 0 or self.step == self.steps:
                self._end_epoch(time.perf_counter() - started)
                started = time.perf_counter()
            after_step(self)
        self.units.release()

    def train_step(self) -> None:
        """Do the step at which the run stands; `train` counts it."""
        iteration = self.iteration(self.step)
        found = [self._part(iteration, part, part is self._parts[-1]) for part in self._parts]
        self.optimizer.step(learning_rate(self.recipe, self.step, self.steps))
        if self.average:
            self.average.update()
        place = self.step % len(self._losses)
        losses, correct = zip(*found, strict=True)
        self._losses[place] = self._mean(losses)
        self._correct[place] = self.world.add(sum(correct))

    def _part(self, iteration: Iteration, part: slice, last: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Forward and backward pass of a part of a mini-batch: its loss, and how many were right."""
        x, y = self.batches.batch(self.step if iteration.batch is None else iteration.batch, part)
        target = y
        if self._mix:
            x, target = self._mix(x, y, self.step, part)
        self.units.apply(iteration.of(part), self.device)
        with nullcontext() if last else self.world.alone(self._forward):
            with self._precision():
                logits = self._forward(x)
                smoothing = 0.0 if self._mix else self.recipe.label_smoothing  # mixed targets hold theirs
                loss = F.cross_entropy(logits, target, label_smoothing=smoothing)
            (loss if len(self._parts) == 1 else loss / len(self._parts)).backward()
        return loss.detach(), (logits.detach().argmax(1) == y).sum()

    def _mean(self, losses: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Of the losses of all parts, in all processes."""
        if len(losses) == self.world.size == 1:
            return losses[0]
        return self.world.add(torch.stack(losses).sum()) / (len(losses) * self.world.size)

    def _precision(self) -> torch.autocast:
        enabled = self.recipe.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _end_epoch(self, seconds: float) -> None:
        per_epoch = self.batches.steps_per_epoch
        steps = self.step % per_epoch or per_epoch  # a budget may end within an epoch
        losses = self._losses[:steps].double().cpu().numpy()
        self.epoch_seconds.append(seconds)
        bad = np.flatnonzero(~np.isfinite(losses))
        if bad.size:
            self.diverged_step = self.step - len(losses) + int(bad[0])
            return
        epoch = -(-self.step // per_epoch)
        row = {
            "epoch": epoch,
            "step": self.step,
            "train_loss": float(losses.mean()),
            "train_accuracy": int(self._correct[:steps].sum()) / (len(losses) * self.recipe.batch_size),
            "validation_loss": None,
            "validation_accuracy": None,
        }
        if epoch % self.recipe.validate_every == 0 or self.step == self.steps:
            result = self.evaluate("validation")
            row["validation_loss"], row["validation_accuracy"] = result["loss"], result["accuracy"]
        self.history.append(row)

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, Any]:
        """Loss, accuracy and predicted classes, shape (n,), on a whole split; loss None if not finite."""
        started = time.perf_counter()
        y = self.data.labels(split)
        self.units.release()
        self.network.eval()
        # Running statistics, of which every process has its own, go by the first one's.
        self.world.share(self.average.state.values() if self.average else self.network.buffers())
        predictions, loss = torch.zeros(len(y), dtype=torch.int64), 0.0
        with self.average.in_place() if self.average else nullcontext():
            # Every process evaluates mini-batches of its own.
            for start in range(self.world.rank * _EVALUATION_BATCH, len(y), self.world.size * _EVALUATION_BATCH):
                here = slice(start, start + _EVALUATION_BATCH)
                with self._precision():
                    logits = self.network(self.examples(split, here)).float()
                labels = torch.from_numpy(y[here]).to(self.device)
                loss += F.cross_entropy(logits, labels, reduction="none").double().sum().item()
                predictions[here] = logits.argmax(1).cpu()
        self.network.train()
        if self.world.size > 1:
            predictions = self.world.add(predictions.to(self.device)).cpu()
            loss = self.world.add(torch.tensor(loss, dtype=torch.float64, device=self.device)).item()
        found = predictions.numpy().astype(np.int16)
        self.evaluate_seconds += time.perf_counter() - started
        mean = loss / len(y)
        return {
            "loss": mean if math.isfinite(mean) else None,
            "accuracy": float((found == y).mean()),
            "predictions": found,
        }

    def examples(self, split: str, here: slice) -> torch.Tensor:
        """Some examples of a split, normalised but not augmented, shape (n, …), on the device."""
        x = self.batches.normalise(torch.from_numpy(self.data.examples(split, here)).to(self.device))
        if self.recipe.channels_last and x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def finish(self) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, torch.Tensor]]:
        """The run's numbers, its test predictions and its weights. Called once, after `train`.

        A run of a sweep has neither: it never reads the test split, and nothing is measured on its network.
        """
        test = None
        if self.diverged_step is None:
            test = None if self.spec.sweep else self.evaluate("test")
            if (test["loss"] if test else self.history[-1]["validation_loss"]) is None:
                self.diverged_step = self.steps
        kept = self.average.state if self.average else self.network.state_dict()
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}
        numbers: dict[str, Any] = {
            "parameters": cost.parameters(self.network),
            "forward_flops": self.iteration_cost.forward_full,
            "iteration_flops": self.iteration_cost(FULL),
            "units": len(self.units),
            "learning_rate": self.recipe.learning_rate,
            "steps": self.steps,
            **self._spent(),
            "examples": self.step * self.recipe.batch_size,
            "diverged_step": self.diverged_step,
            "test_accuracy": None,
            "test_loss": None,
            "history": self.history,
            "weights": None,
        }
        if self.diverged_step is not None:
            return numbers, {}, {}
        numbers["weights"] = {name: _checksum(tensor) for name, tensor in weights.items()}
        if test is None:
            return numbers, {}, {}
        numbers |= {"test_accuracy": test["accuracy"], "test_loss": test["loss"]}
        return numbers, {"test": test["predictions"]}, weights

    def _spent(self) -> dict[str, float]:
        """What the steps done cost, counted from the masks that were drawn."""
        done = [self.iteration(step) for step in range(self.step)]
        return {
            "training_flops": sum(map(self.iteration_cost, done)) * self.recipe.batch_size,
            "unit_updates": sum(map(self.iteration_cost.updates, done)),
        }

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """All that the rest of the run depends on: tensors by name, and the rest as JSON."""
        tensors = {f"network/{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"optimizer/{name}": t for name, t in self.optimizer.state().items()}
        tensors |= {"losses": self._losses, "correct": self._correct}
        if self.average:
            tensors |= {f"average/{name}": t for name, t in self.average.state.items()}
        return tensors, {"history": self.history, "epoch_seconds": self.epoch_seconds}

    def restore(self, checkpoint: "Checkpoint") -> None:
        """Stand where a checkpoint was taken."""
        of: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimizer": {}}
        for name, tensor in checkpoint.tensors.items():
            kind, _, rest = name.partition("/")
            of.setdefault(kind, {})[rest] = tensor
        self.network.load_state_dict(of["network"])
        self.optimizer.restore(of["optimizer"])
        if self.average:
            self.average.restore(of["average"])
        self._losses.copy_(checkpoint.tensors["losses"])
        self._correct.copy_(checkpoint.tensors["correct"])
        self.step = checkpoint.step
        self.history = list(checkpoint.state["history"])
        self.epoch_seconds = list(checkpoint.state["epoch_seconds"])


@cache
def _cost(construction: str, granularity: str) -> cost.IterationCost:
    """Counted once a process: the seeds of a cell have one network."""
    arguments = json.loads(construction)
    shape = tuple(arguments.pop("input_shape"))
    network = build(**arguments, input_shape=shape, seed=0)
    return cost.IterationCost(network, shape, granularity)


def _checksum(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:16]
