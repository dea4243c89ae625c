"""Evaluation of a network on a whole split."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rdp.training.process_group import ProcessGroup

if TYPE_CHECKING:
    from rdp.data.dataset import Prepared
    from rdp.spec import Recipe

_BATCH = 500


@dataclass(frozen=True)
class Evaluation:
    """Result on a split."""

    loss: float | None  # mean cross-entropy; None if not finite
    accuracy: float  # share of correct predictions
    predictions: np.ndarray  # predicted classes, shape (n,)


def autocast(recipe: "Recipe", device: torch.device) -> torch.autocast:
    """Context of the recipe's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")


@dataclass(frozen=True)
class Evaluator:
    """Evaluates networks on the splits of a dataset, divided among the processes of a group."""

    data: "Prepared"
    normalise: Callable[[torch.Tensor], torch.Tensor]  # maps raw examples on the device to inputs of the network
    recipe: "Recipe"  # its precision and memory format are used
    device: torch.device  # where to compute
    group: ProcessGroup  # the processes, all of which call it

    @torch.no_grad()
    def __call__(self, network: nn.Module, split: str) -> Evaluation:
        """Loss, accuracy and predictions of a network in evaluation mode."""
        labels = self.data.labels(split)
        predictions, loss = torch.zeros(len(labels), dtype=torch.int64), 0.0
        for start in range(self.group.rank * _BATCH, len(labels), self.group.size * _BATCH):
            rows = slice(start, start + _BATCH)
            with autocast(self.recipe, self.device):
                logits = network(self.examples(split, rows)).float()
            y = torch.from_numpy(labels[rows]).to(self.device)
            loss += F.cross_entropy(logits, y, reduction="none").double().sum().item()
            predictions[rows] = logits.argmax(1).cpu()
        if self.group.size > 1:
            predictions = self.group.all_reduce(predictions.to(self.device)).cpu()
            loss = self.group.all_reduce(torch.tensor(loss, dtype=torch.float64, device=self.device)).item()
        classes = predictions.numpy().astype(np.int16)
        mean = loss / len(labels)
        return Evaluation(mean if math.isfinite(mean) else None, float((classes == labels).mean()), classes)

    def examples(self, split: str, rows: slice) -> torch.Tensor:
        """Examples of a split on the device, normalised but not augmented, shape (n, …)."""
        x = self.normalise(torch.from_numpy(self.data.examples(split, rows)).to(self.device))
        if self.recipe.channels_last and x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x
