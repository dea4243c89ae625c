"""Droppath (stochastic depth): each example skips residual branches at random, in every iteration."""

from typing import ClassVar

import numpy as np

from rdp.methods import Iteration
from rdp.methods.dropping import Dropping
from rdp.utils import rng


class DropPath(Dropping):
    """Droppath per example, with timm's ``DropPath`` as the measure: the same numbers for the same mask.

    Every branch is computed and every parameter trained in every step: what an example drops, others keep.
    """

    per_example: ClassVar[bool] = True

    def drop(self, step: int, rates: np.ndarray, batch_size: int, seed: int) -> Iteration:
        kept = rng.generator(seed, "mask", step).random((len(rates), batch_size)) >= rates[:, None]
        return Iteration("drop", active=kept, scale=self.scale(rates))
