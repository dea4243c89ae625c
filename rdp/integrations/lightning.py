"""A callback for PyTorch Lightning."""

import math
from typing import Any

from torch.optim import Optimizer

from rdp.errors import UserError
from rdp.integrations.training_schedule import TrainingSchedule
from rdp.utils.distribution import missing_extra

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError:
    raise missing_extra("rdp.integrations.lightning", "integrations") from None


class ScheduleCallback(TrainingSchedule, Callback):
    """Trains a LightningModule with automatic optimization by a method; arguments as in `TrainingSchedule`.

    A step is an optimizer step, so mini-batches whose gradients are accumulated have the same mask. With several
    processes, choose the strategy ``ddp_find_unused_parameters_true``.

    Raises:
        UserError: on ``fit``: manual optimization, or as in `rdp.Schedule`.

    >>> import rdp
    >>> from lightning.pytorch import Trainer
    >>> callback = ScheduleCallback(rdp.make_method("residual_droppath", rate=0.1), submodule="student")
    >>> trainer = Trainer(callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False)
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the schedule. Weights, optimizers and the step of a checkpoint have been loaded."""
        if not pl_module.automatic_optimization:
            raise UserError(
                f"{type(pl_module).__name__}: with manual optimization, Lightning counts the steps of each optimizer; "
                "remove this callback, and enter schedule.iteration(step) in training_step"
            )
        batches, steps = trainer.num_training_batches, trainer.estimated_stepping_batches
        self._begin(
            pl_module,
            trainer.optimizers,
            None if steps == math.inf else int(steps),
            None if batches == math.inf else math.ceil(batches / trainer.accumulate_grad_batches),
        )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Enter the iteration of the optimizer step that this mini-batch belongs to."""
        self._enter(trainer.global_step)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Check that the optimizer will move no frozen parameter: a LightningModule may clear gradients its own way."""
        self._check_gradients()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the iteration, before validation."""
        self._leave()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the iteration of a mini-batch that the LightningModule skipped."""
        self._abandon()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the schedule."""
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the schedule."""
        self.close()
