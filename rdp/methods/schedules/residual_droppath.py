"""ResidualDroppath: drop iterations alternate with iterations that train only what was dropped."""

import numpy as np
from pydantic import Field

from rdp.methods import FULL, FrozenNorm, Iteration
from rdp.methods.dropping import BatchDropping


class ResidualDropPath(BatchDropping):
    """ResidualDroppath (arXiv 2411.09475, abstract): two kinds of iteration in turn.

    Even steps are *drop* iterations: one mask for the mini-batch; the kept units are computed, scaled, and trained
    with the stem and the head. Odd steps are *recover* iterations with the mask of the step before: every unit is
    active at its full-network scale, and only the units that were dropped are trained. The abstract gives the two
    kinds and no more: the unit, the mask's law, the scale, what is frozen with the units are choices of this
    project, and options.

    Options:
        frozen_norm: what batch normalisation does where parameters are frozen, see `Iteration`.
        train_rest: whether stem, down-sampling and head are trained in recover iterations too. By default they
            are frozen, being undropped.
        reuse_batch: whether a recover iteration takes the mini-batch of its drop iteration again. By default each
            takes one of its own.
    """

    frozen_norm: FrozenNorm = "update"
    train_rest: bool = Field(False, description="train stem and head in recover iterations too")
    reuse_batch: bool = Field(False, description="recover on the mini-batch of the drop iteration")

    def drop(self, step: int, rates: np.ndarray, batch_size: int, seed: int) -> Iteration:
        pair, recovers = divmod(step, 2)
        batch = pair if self.reuse_batch else None
        dropped = self.mask(pair, rates, seed)
        if not dropped.any():
            return FULL if batch is None else Iteration("full", batch=batch)
        if not recovers:
            return Iteration("drop", active=~dropped, scale=self.scale(rates), trained=~dropped, batch=batch)
        return Iteration(
            "recover",
            trained=dropped,
            rest_trained=self.train_rest,
            frozen_norm=self.frozen_norm,
            batch=batch,
        )
