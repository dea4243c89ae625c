"""ResidualDroppath: drop iterations alternate with iterations that train only the dropped units."""

import numpy as np
from pydantic import Field

from rdp.methods import FULL, FrozenNorm, Iteration
from rdp.methods.dropping import BatchDropping


class ResidualDropPath(BatchDropping):
    """ResidualDroppath (arXiv 2411.09475, abstract): two alternating kinds of iteration.

    Even steps are *drop* iterations. One mask holds for the mini-batch. The undropped units are computed, scaled, and
    trained with the stem and the head. Odd steps are *recover* iterations with the mask of the previous step: every
    unit is active at full scale, and only the dropped units are trained. The abstract specifies only the two kinds.
    The unit, the distribution of the masks, the scale and the other frozen parameters are choices of this project,
    available as options.

    Options:
        frozen_norm: behaviour of batch normalisation in frozen modules, see `Iteration`.
        train_rest: whether recover iterations also train stem, down-sampling and head. By default they are frozen,
            because they are not dropped.
        reuse_batch: whether a recover iteration uses the mini-batch of its drop iteration. By default it uses the next
            mini-batch.
    """

    frozen_norm: FrozenNorm = "update"
    train_rest: bool = Field(False, description="train stem, down-sampling and head in recover iterations as well")
    reuse_batch: bool = Field(False, description="use the mini-batch of the drop iteration again")

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
