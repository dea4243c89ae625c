"""Calibration: how often a network is right, by how sure it is."""

from typing import Any

import torch

from rdp.probes import Subject

COLUMNS = ("bin", "examples", "confidence", "accuracy")
EXAMPLES = 1000  # of the test split; most probes read 256
BINS = 10


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """The largest probability of the softmax beside the share of right answers, in bins of equal width.

    Returns:
        One mapping a bin that holds an example: ``bin``, from 0; ``examples`` in it; ``confidence``, their mean
        largest probability; ``accuracy``, the share of them that are right.
    """
    sure, said = subject.network(subject.x).softmax(1).max(1)
    right, bins = said == subject.y, (sure * BINS).long().clamp(max=BINS - 1)
    return [
        {
            "bin": number,
            "examples": int(here.sum()),
            "confidence": sure[here].mean().item(),
            "accuracy": right[here].double().mean().item(),
        }
        for number in range(BINS)
        if (here := bins == number).any()
    ]
