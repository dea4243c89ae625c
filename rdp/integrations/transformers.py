"""A callback for Hugging Face Trainer."""

import math
from typing import Any

from rdp.errors import UserError
from rdp.integrations.training_schedule import TrainingSchedule
from rdp.utils.distribution import missing_extra

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError:
    raise missing_extra("rdp.integrations.transformers", "integrations") from None


class ScheduleCallback(TrainingSchedule, TrainerCallback):
    """Trains the model of a Hugging Face Trainer by a method; arguments as in `TrainingSchedule`.

    A step is an optimizer step, so mini-batches whose gradients are accumulated have the same mask. Trainer does not
    tell its callbacks of an error or of Ctrl-C: call `close` before the model is used otherwise.

    Raises:
        UserError: on ``train``: as in `rdp.Schedule`; reentrant gradient checkpointing, which has no gradient in an
            iteration that freezes the first layers.

    >>> import rdp
    >>> callback = ScheduleCallback(rdp.make_method("residual_droppath", rate=0.1))  # for Trainer(callbacks=[callback])
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the schedule. Weights, optimizer and the step of a checkpoint have been loaded."""
        options: Any = args.gradient_checkpointing_kwargs or {}
        if args.gradient_checkpointing and options.get("use_reentrant"):
            raise UserError("gradient_checkpointing_kwargs: use_reentrant is true; pass {'use_reentrant': False}")
        try:
            batches = len(kwargs["train_dataloader"])
        except TypeError:  # an iterable dataset without a length
            per_epoch = None
        else:
            per_epoch = math.ceil(batches / args.gradient_accumulation_steps)
        self._begin(kwargs["model"], [kwargs["optimizer"]], state.max_steps, per_epoch)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Enter the iteration of an optimizer step, for all its mini-batches."""
        self._enter(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End the iteration, before evaluation."""
        self._leave()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the schedule."""
        self.close()
