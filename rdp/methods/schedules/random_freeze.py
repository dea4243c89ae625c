"""Random freezing: a control that freezes parameters like ResidualDroppath but drops nothing."""

import numpy as np
from pydantic import Field

from rdp.methods import FULL, FrozenNorm, Iteration
from rdp.methods.dropping import BatchDropping


class RandomFreeze(BatchDropping):
    """`ResidualDropPath` with every unit active in both kinds of iteration, which isolates the effect of freezing.

    It draws the same masks as `ResidualDropPath` with the same seed. Even steps train the undropped units, the stem
    and the head, odd steps the dropped units. So each parameter is updated in the same steps.

    Options:
        frozen_norm, train_rest: see `ResidualDropPath`.
    """

    frozen_norm: FrozenNorm = "update"
    train_rest: bool = Field(False, description="train stem, down-sampling and head in odd steps as well")

    def drop(self, step: int, rates: np.ndarray, batch_size: int, seed: int) -> Iteration:
        pair, recovers = divmod(step, 2)
        dropped = self.mask(pair, rates, seed)
        if not dropped.any():
            return FULL
        if not recovers:
            return Iteration("freeze", trained=~dropped, frozen_norm=self.frozen_norm)
        return Iteration("freeze", trained=dropped, rest_trained=self.train_rest, frozen_norm=self.frozen_norm)
