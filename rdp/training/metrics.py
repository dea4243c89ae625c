"""Losses and correct predictions of an epoch's steps, accumulated on the device."""

import numpy as np
import torch


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

    def summarize(self, steps: int) -> tuple[float, int, int | None]:
        """Mean loss, number of correct predictions, and index of the first loss that is not finite, if any.

        They are of the first ``steps`` steps of the current epoch.
        """
        losses = self.losses[:steps].double().cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(losses))
        return float(losses.mean()), int(self.correct[:steps].sum()), int(bad[0]) if bad.size else None
