"""Random freezing: a control that freezes parameters like ResidualDroppath but drops nothing."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from rdp.methods import FULL, FrozenNorm, Iteration, Training
from rdp.methods.dropping import BatchDropping


class RandomFreeze(BatchDropping):
    """`ResidualDropPath` with every unit active in both kinds of iteration, which isolates the effect of freezing.

    It draws the same masks as `ResidualDropPath` with the same seed. Even steps train the undropped units, the stem
    and the head, odd steps the dropped units. So each parameter is updated in the same steps.

    Options:
        frozen_norm, train_rest, recover_lr_scale: see `ResidualDropPath`; odd steps are those of its recover
            iterations.
    """

    frozen_norm: FrozenNorm = "update"
    train_rest: bool = Field(False, description="train stem, down-sampling and head in odd steps as well")
    recover_lr_scale: float = Field(1.0, gt=0, description="factor on the learning rate of odd steps")

    steps_per_draw: ClassVar[int] = 2

    def drop(self, step: int, rates: np.ndarray, training: Training) -> Iteration:
        dropped = self.mask(step, rates, training)
        if not dropped.any():
            return FULL
        if step % 2 == 0:
            return Iteration("freeze", trained=~dropped, frozen_norm=self.frozen_norm)
        return Iteration(
            "freeze",
            trained=dropped,
            rest_trained=self.train_rest,
            frozen_norm=self.frozen_norm,
            learning_rate_scale=self.recover_lr_scale,
        )
