"""The trainer of a run: build the network, then batch, forward, backward, step."""

import hashlib
import importlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from rdp import data
from rdp.methods import FULL, Iteration, Training
from rdp.models import create_model
from rdp.models.units import Units
from rdp.training import budgets, cost
from rdp.training.determinism import make_deterministic as make_deterministic  # under the code digest of every run
from rdp.training.ema import ExponentialMovingAverage
from rdp.training.evaluation import Evaluation, Evaluator, autocast
from rdp.training.metrics import EpochMetrics
from rdp.training.optimizers import learning_rate, make_optimizer
from rdp.training.process_group import SINGLE, ProcessGroup

if TYPE_CHECKING:
    from rdp.data.dataset import Prepared
    from rdp.spec import Choice, RunSpec
    from rdp.training.checkpoint import Checkpoint

_costs: dict[str, cost.IterationCost] = {}  # by network: the seeds of a cell share one


class Trainer:
    """Trains and evaluates the network of a `RunSpec`; one with a sweep needs the choice of it.

    Attributes:
        step: optimizer steps done.
        steps: optimizer steps in total.
        training: what the method knows of the run.
        history: one row of metrics per epoch done.
        diverged_step: the first step whose loss was not finite, or None.
        epoch_seconds, evaluate_seconds: durations, for telemetry.
    """

    def __init__(
        self,
        spec: "RunSpec",
        dataset: "Prepared",
        device: torch.device,
        choice: "Choice | None" = None,
        group: ProcessGroup = SINGLE,
    ) -> None:
        self.spec, self.data, self.device, self.group = spec, dataset, device, group
        self.recipe, self.method = spec.recipe, spec.instance
        if choice is not None:
            self.recipe = choice.apply(self.recipe)
        for name in ("learning_rate", "norm_gain"):
            if getattr(self.recipe, name) is None:
                raise ValueError(f"{spec.run}: a sweep chooses its {name.replace('_', ' ')}, which must be given")
        self._architecture: dict[str, Any] = {
            "name": spec.architecture,
            "path": self.method.path,
            "norm_gain": self.recipe.norm_gain,
            "input_shape": dataset.info.shape,
            "classes": dataset.info.classes,
            **self.method.path_options(),
        }
        self.network = create_model(**self._architecture, seed=spec.seed).to(device)
        if self.recipe.channels_last and dataset.info.kind == "image":
            self.network.to(memory_format=torch.channels_last)
        self.units = Units(self.network, self.method.unit_granularity)
        if self.method.drops_units:
            self.units.require()
        self.optimizer = make_optimizer(self.network, self.recipe)
        self.ema = ExponentialMovingAverage(self.network, self.recipe.ema) if self.recipe.ema else None
        self._uncompiled: Callable[[], AbstractContextManager[Any]] = nullcontext
        if self.recipe.compile:  # imported by name: see below
            compilation = importlib.import_module("rdp.training.compilation")
            compilation.compile_network(self.network, self.units, by_block=self.method.drops_units)
            self._uncompiled = compilation.uncompiled
        self._model = group.wrap(self.network, device, freezes=self.method.drops_units)
        self._microbatches = group.microbatches(self.recipe.batch_size, self.recipe.accumulate)
        # Imported by name: the run's code digest covers only the loader that it uses. The same holds for mixup.
        loader = importlib.import_module(data.batches_module(spec.dataset))
        self.batches = loader.TrainingBatches(dataset, self.recipe, spec.seed, device)
        self.evaluator = Evaluator(dataset, self.batches.normalise, self.recipe, device, group)
        self._mixup = None
        if self.recipe.mixes:
            mixup = importlib.import_module("rdp.training.mixup")
            self._mixup = mixup.Mixup(self.recipe, dataset.info.classes, spec.seed)
        per_epoch = self.batches.steps_per_epoch
        self.steps = self.recipe.epochs * per_epoch
        self.training = Training(len(self.units), self.recipe.batch_size, spec.seed, self.steps, per_epoch)
        if self.recipe.budget != "steps":
            self.steps = self._count_steps()
            self.training = replace(self.training, steps=self.steps)
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.diverged_step: int | None = None
        self.epoch_seconds: list[float] = []
        self.evaluate_seconds = 0.0
        self._metrics = EpochMetrics(self.batches.steps_per_epoch, device)

    @cached_property
    def iteration_cost(self) -> cost.IterationCost:
        """Floating-point operations of an iteration of this network."""
        granularity = self.method.unit_granularity
        key = json.dumps([self._architecture, granularity])
        if key not in _costs:
            network = create_model(**self._architecture, seed=0)
            _costs[key] = cost.IterationCost(network, self.data.info.shape, granularity)
        return _costs[key]

    def iteration(self, step: int) -> Iteration:
        """The units that a step computes and the parameters that it trains."""
        return self.method.iteration(step, self.training)

    def _count_steps(self) -> int:
        """The steps within a budget of floating-point operations or updates."""
        spend = self.iteration_cost if self.recipe.budget == "flops" else self.iteration_cost.updates

        def plan(steps: int) -> Callable[[int], Iteration]:
            training = replace(self.training, steps=steps)
            return lambda step: self.method.iteration(step, training)

        return budgets.count_steps(spend, self.steps, plan)

    def train(self, after_step: Callable[["Trainer"], None]) -> None:
        """Train from the current step to the last, or until a loss is not finite; call ``after_step`` after each."""
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
        """Do one optimizer step. The caller increments ``step``."""
        iteration = self.iteration(self.step)
        results = [self._forward_backward(iteration, part) for part in self._microbatches]
        self.optimizer.step(learning_rate(self.recipe, self.step, self.steps) * iteration.learning_rate_scale)
        if self.ema:
            self.ema.update()
        losses = [loss for loss, _ in results]
        correct = sum((count for _, count in results[1:]), results[0][1])
        self._metrics.record(self.step, self._mean(losses), self.group.all_reduce(correct))

    def _forward_backward(self, iteration: Iteration, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Forward and backward pass of a microbatch; its loss and number of correct predictions."""
        x, y = self.batches.batch(self.step if iteration.batch is None else iteration.batch, part)
        target = y
        if self._mixup:
            x, target = self._mixup(x, y, self.step, part)
        self.units.apply(iteration.of(part), self.device)
        is_last = part is self._microbatches[-1]
        with nullcontext() if is_last else self.group.no_sync(self._model):
            with autocast(self.recipe, self.device):
                logits = self._model(x)
                smoothing = 0.0 if self._mixup else self.recipe.label_smoothing  # mixup smooths its targets itself
                loss = F.cross_entropy(logits, target, label_smoothing=smoothing)
            torch.autograd.backward(loss if len(self._microbatches) == 1 else loss / len(self._microbatches))
        return loss.detach(), (logits.detach().argmax(1) == y).sum()

    def _mean(self, losses: list[torch.Tensor]) -> torch.Tensor:
        if len(losses) == self.group.size == 1:
            return losses[0]
        return self.group.all_reduce(torch.stack(losses).sum()) / (len(losses) * self.group.size)

    def _end_epoch(self, seconds: float) -> None:
        per_epoch = self.batches.steps_per_epoch
        steps = self.step % per_epoch or per_epoch  # a budget may end within an epoch
        loss, correct, first_bad = self._metrics.summarize(steps)
        self.epoch_seconds.append(seconds)
        if first_bad is not None:
            self.diverged_step = self.step - steps + first_bad
            return
        epoch = -(-self.step // per_epoch)
        validates = epoch % self.recipe.validate_every == 0 or self.step == self.steps
        validation = self.evaluate("validation") if validates else None
        self.history.append(
            {
                "epoch": epoch,
                "step": self.step,
                "train_loss": loss,
                "train_accuracy": correct / (steps * self.recipe.batch_size),
                "validation_loss": validation.loss if validation else None,
                "validation_accuracy": validation.accuracy if validation else None,
            }
        )

    def evaluate(self, split: str) -> Evaluation:
        """Evaluate the network, or its moving average, on a whole split."""
        started = time.perf_counter()
        self.units.release()
        self.network.eval()
        # Each process has running statistics of its own: all use those of the main one.
        self.group.broadcast(self.ema.state.values() if self.ema else self.network.buffers())
        with self._uncompiled(), self.ema.swapped_in() if self.ema else nullcontext():
            evaluation = self.evaluator(self.network, split)
        self.network.train()
        self.evaluate_seconds += time.perf_counter() - started
        return evaluation

    def finish(self) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, torch.Tensor]]:
        """The run's numbers, test predictions and weights. Call it once, after `train`.

        The run of a sweep has no predictions and weights: it never reads the test split, and is not measured.
        """
        test = None
        if self.diverged_step is None:
            test = None if self.spec.sweep else self.evaluate("test")
            if (test.loss if test else self.history[-1]["validation_loss"]) is None:
                self.diverged_step = self.steps
        numbers = self._numbers()
        if self.diverged_step is not None:
            return numbers, {}, {}
        state = self.ema.state if self.ema else self.network.state_dict()
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        contents = {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
        numbers["weights"] = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in contents.items()}
        if test is None:
            return numbers, {}, {}
        numbers |= {"test_accuracy": test.accuracy, "test_loss": test.loss}
        return numbers, {"test": test.predictions}, weights

    def _numbers(self) -> dict[str, Any]:
        """Numbers of the record; costs are counted from the masks of the steps done."""
        iterations = [self.iteration(step) for step in range(self.step)]
        return {
            "parameters": cost.count_parameters(self.network),
            "forward_flops": self.iteration_cost.forward_full,
            "activation_bytes": self.iteration_cost.activation_bytes,
            "iteration_flops": self.iteration_cost(FULL),
            "units": len(self.units),
            "learning_rate": self.recipe.learning_rate,
            "norm_gain": self.recipe.norm_gain,
            "steps": self.steps,
            "training_flops": sum(map(self.iteration_cost, iterations)) * self.recipe.batch_size,
            "unit_updates": sum(map(self.iteration_cost.updates, iterations)),
            "examples": self.step * self.recipe.batch_size,
            "diverged_step": self.diverged_step,
            "history": self.history,
        } | dict.fromkeys(("test_accuracy", "test_loss", "weights"))

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The state for a checkpoint: tensors by name, and all else as JSON."""
        parts = {"network": self.network.state_dict(), "optimizer": self.optimizer.state()}
        parts |= {"ema": self.ema.state} if self.ema else {}
        tensors = {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        tensors |= {"losses": self._metrics.losses, "correct": self._metrics.correct}
        return tensors, {"history": self.history, "epoch_seconds": self.epoch_seconds}

    def restore(self, checkpoint: "Checkpoint") -> None:
        """Load the state of a checkpoint."""
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimizer": {}}
        for key, tensor in checkpoint.tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = tensor
        self.network.load_state_dict(parts["network"])
        self.optimizer.restore(parts["optimizer"])
        if self.ema:
            self.ema.restore(parts["ema"])
        self._metrics.losses.copy_(checkpoint.tensors["losses"])
        self._metrics.correct.copy_(checkpoint.tensors["correct"])
        self.step = checkpoint.step
        self.history = list(checkpoint.state["history"])
        self.epoch_seconds = list(checkpoint.state["epoch_seconds"])
