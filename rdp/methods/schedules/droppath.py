"""Droppath (stochastic depth): every iteration drops residual branches at random for each example."""

from typing import ClassVar

import numpy as np

from rdp.methods import Iteration, Training
from rdp.methods.dropping import Dropping
from rdp.utils import rng


class DropPath(Dropping):
    """Droppath with a mask per example, numerically equal to timm's ``DropPath`` for the same mask.

    Every step computes every branch and trains every parameter.
    """

    per_example: ClassVar[bool] = True

    def drop(self, step: int, rates: np.ndarray, training: Training) -> Iteration:
        draws = rng.generator(training.seed, "mask", step).random((len(rates), training.batch_size))
        active = draws >= rates[:, None]
        return Iteration("drop", active=active, scale=self.scale(rates))
