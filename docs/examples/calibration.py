"""Calibration: confidence against accuracy."""

from typing import Any

import torch

from rdp.probes import Subject

COLUMNS = ("bin", "examples", "confidence", "accuracy")
EXAMPLES = 1000  # of the test split; the default is 256
BINS = 10


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """Return confidence (the largest softmax probability) and accuracy in bins of equal width.

    Returns:
        One mapping for each bin with examples: ``bin``, counted from 0; ``examples``, their number; ``confidence``,
        their mean; ``accuracy``, the share of correct predictions.
    """
    confidence, prediction = subject.network(subject.x).softmax(1).max(1)
    correct, bins = prediction == subject.y, (confidence * BINS).long().clamp(max=BINS - 1)
    return [
        {
            "bin": number,
            "examples": int(members.sum()),
            "confidence": confidence[members].mean().item(),
            "accuracy": correct[members].double().mean().item(),
        }
        for number in range(BINS)
        if (members := bins == number).any()
    ]
