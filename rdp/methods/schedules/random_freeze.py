"""Random freezing: the control that trains what ResidualDroppath trains, and drops nothing."""

import numpy as np
from pydantic import Field

from rdp.methods import FULL, FrozenNorm, Iteration
from rdp.methods.dropping import BatchDropping


class RandomFreeze(BatchDropping):
    """ResidualDroppath with every unit active in both iterations, so that freezing is all that is left of it.

    The masks are those of `ResidualDropPath` for the same seed: even steps train what it would keep, with the
    stem and the head, odd steps what it would drop. So every parameter is updated in the same steps as there.

    Options:
        frozen_norm, train_rest: as in `ResidualDropPath`.
    """

    frozen_norm: FrozenNorm = "update"
    train_rest: bool = Field(False, description="train stem and head in odd iterations too")

    def drop(self, step: int, rates: np.ndarray, batch_size: int, seed: int) -> Iteration:
        pair, recovers = divmod(step, 2)
        dropped = self.mask(pair, rates, seed)
        if not dropped.any():
            return FULL
        if not recovers:
            return Iteration("freeze", trained=~dropped, frozen_norm=self.frozen_norm)
        return Iteration("freeze", trained=dropped, rest_trained=self.train_rest, frozen_norm=self.frozen_norm)
