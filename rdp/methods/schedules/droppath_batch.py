"""Droppath with one mask per mini-batch: a control in which every iteration is a drop iteration."""

import numpy as np

from rdp.methods import FULL, Iteration
from rdp.methods.dropping import BatchDropping


class DropPathBatch(BatchDropping):
    """The drop iteration of `ResidualDropPath` in every step, each with a new mask and without recovery."""

    def drop(self, step: int, rates: np.ndarray, batch_size: int, seed: int) -> Iteration:
        active = ~self.mask(step, rates, seed)
        if active.all():
            return FULL
        return Iteration("drop", active=active, scale=self.scale(rates), trained=active)
