"""Droppath with one mask for the mini-batch: the control whose iterations all drop."""

import numpy as np

from rdp.methods import FULL, Iteration
from rdp.methods.dropping import BatchDropping


class DropPathBatch(BatchDropping):
    """The drop iteration of ResidualDroppath in every step, with a mask of its own each: nothing is recovered."""

    def drop(self, step: int, rates: np.ndarray, batch_size: int, seed: int) -> Iteration:
        kept = ~self.mask(step, rates, seed)
        if kept.all():
            return FULL
        return Iteration("drop", active=kept, scale=self.scale(rates), trained=kept)
