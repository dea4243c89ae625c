"""Droppath with one mask per mini-batch: a control in which every iteration is a drop iteration."""

import numpy as np

from rdp.methods import FULL, Iteration, Training
from rdp.methods.dropping import BatchDropping


class DropPathBatch(BatchDropping):
    """The drop iteration of `ResidualDropPath` in every step, without recovery. By default, each has a new mask."""

    def drop(self, step: int, rates: np.ndarray, training: Training) -> Iteration:
        active = ~self.mask(step, rates, training)
        if active.all():
            return FULL
        return Iteration("drop", active=active, scale=self.scale(rates), trained=active)
