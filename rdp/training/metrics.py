"""Losses and correct predictions of an epoch's steps, accumulated on the device."""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class EpochSummary:
    """Training metrics of an epoch.

    Attributes:
        loss: mean loss over its steps.
        correct: number of correct predictions.
        steps: number of steps.
        first_bad: index of the first step whose loss is not finite, or None.
    """

    loss: float
    correct: int
    steps: int
    first_bad: int | None


class EpochMetrics:
    """Metrics per step. The host reads them once an epoch, so that no step waits for it."""

    def __init__(self, steps_per_epoch: int, device: torch.device) -> None:
        self.losses = torch.zeros(steps_per_epoch, device=device)
        self.correct = torch.zeros(steps_per_epoch, dtype=torch.int64, device=device)

    def record(self, step: int, loss: torch.Tensor, correct: torch.Tensor) -> None:
        """Store the metrics of a step, counted from the start of training."""
        index = step % len(self.losses)
        self.losses[index] = loss
        self.correct[index] = correct

    def summarize(self, steps: int) -> EpochSummary:
        """Summary of the first ``steps`` steps of the current epoch."""
        losses = self.losses[:steps].double().cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(losses))
        first_bad = int(bad[0]) if bad.size else None
        return EpochSummary(float(losses.mean()), int(self.correct[:steps].sum()), steps, first_bad)
