"""What the callbacks share: a schedule for each training, and an iteration for each mini-batch or optimizer step."""

import inspect
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from torch.optim import Optimizer

from rdp.errors import UserError
from rdp.methods import Iteration, Method
from rdp.models.schedule import Schedule


class TrainingSchedule:
    """Trains a model by a method in a trainer with callbacks.

    The schedule is made when training begins and closed when it ends. So the model is a plain one outside the training,
    and a resumed training goes on with the trainer's own count of optimizer steps. The optimizers are attached.

    Args:
        method: from `rdp.make_method`.
        submodule: name of the module to train by the method, such as ``student``; by default the whole model.
        **options: of `rdp.Schedule`, such as ``seed``, the same in all processes and after a resume. The trainer's
            numbers of steps are the default.

    Attributes:
        schedule: the `rdp.Schedule` during training, else None.

    Raises:
        UserError: a method that draws one mask per example or reads a mini-batch twice, because callbacks neither see
            nor choose the mini-batches.
    """

    def __init__(self, method: Method, *, submodule: str = "", **options: Any) -> None:
        inspect.signature(Schedule).bind(None, method, **options)  # a TypeError here rather than when training begins
        if method.per_example:
            raise UserError(
                f"{type(self).__name__}: {method.name()} draws one mask per example, and a callback does not see how "
                "many there are; use droppath_batch, or the drop_path_rate of the model itself"
            )
        if getattr(method, "reuse_batch", False):
            raise UserError(f"{type(self).__name__}: reuse_batch: a callback does not choose the mini-batches")
        self.method, self.submodule, self.options = method, submodule, options
        self.schedule: Schedule | None = None
        self._iteration: AbstractContextManager[Iteration] | None = None

    def _begin(
        self, model: nn.Module, optimizers: Iterable[Optimizer], steps: int | None, steps_per_epoch: int | None
    ) -> None:
        """Make the schedule, in place of that of a training that stopped without notice."""
        self.close()
        try:
            part = model.get_submodule(self.submodule)
        except AttributeError:
            raise UserError(f"{type(model).__name__}: it has no submodule '{self.submodule}'") from None
        numbers = {"steps": steps, "steps_per_epoch": steps_per_epoch}
        self.schedule = Schedule(part, self.method, **(numbers | self.options))
        try:
            for optimizer in optimizers:
                self.schedule.attach(optimizer)
        except UserError:
            self.close()
            raise

    def _enter(self, step: int) -> None:
        """Begin the iteration of an optimizer step, after one that stopped without notice."""
        assert self.schedule is not None
        self._abandon()
        iteration = self.schedule.iteration(step)
        iteration.__enter__()
        self._iteration = iteration

    def _check_gradients(self) -> None:
        """Raise `UserError` if the optimizer would move frozen parameters."""
        assert self.schedule is not None
        self.schedule.check_gradients()

    def _leave(self, error: BaseException | None = None) -> None:
        """End the iteration, as the error in it would if one is given."""
        iteration, self._iteration = self._iteration, None
        if iteration is not None:
            iteration.__exit__(type(error) if error else None, error, None)

    def _abandon(self) -> None:
        """End the iteration without its checks."""
        self._leave(RuntimeError("training stopped"))

    def close(self) -> None:
        """Close the schedule, as at the end of a training; for a training that stopped without notice."""
        self._abandon()
        schedule, self.schedule = self.schedule, None
        if schedule is not None:
            schedule.close()
