"""ResidualDroppath: drop iterations alternate with iterations that train only the dropped units."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from rdp.methods import FULL, FrozenNorm, Iteration, Training
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
            mini-batch. No other mini-batch is used twice or left out.
        recover_lr_scale: factor on the learning rate of recover iterations. Where the published code of LayerDropBack
            (arXiv 2412.18027) trains a random part of the parameters, its factor is 1 / (1 - drop rate), 2 by default.
    """

    frozen_norm: FrozenNorm = "update"
    train_rest: bool = Field(False, description="train stem, down-sampling and head in recover iterations as well")
    reuse_batch: bool = Field(False, description="use the mini-batch of the drop iteration again")
    recover_lr_scale: float = Field(1.0, gt=0, description="factor on the learning rate of recover iterations")

    steps_per_draw: ClassVar[int] = 2

    def iteration(self, step: int, training: Training) -> Iteration:
        planned = super().iteration(step, training)
        if self.rate == 0 or not self.reuse_batch:
            return planned
        first, end = self.window(training)
        reused = max(0, min(step + 1, end) - first) // 2  # recover iterations up to this step
        return replace(planned, batch=int(step - reused))

    def drop(self, step: int, rates: np.ndarray, training: Training) -> Iteration:
        dropped = self.mask(step, rates, training)
        if not dropped.any():
            return FULL
        if step % 2 == 0:
            return Iteration("drop", active=~dropped, scale=self.scale(rates), trained=~dropped)
        return Iteration(
            "recover",
            trained=dropped,
            rest_trained=self.train_rest,
            frozen_norm=self.frozen_norm,
            learning_rate_scale=self.recover_lr_scale,
        )
