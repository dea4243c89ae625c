"""Droppath (stochastic depth): each example skips residual branches at random, in every iteration."""

from typing import ClassVar

import numpy as np

from rdp import rng
from rdp.methods import FULL, Iteration, Method, Rate
from rdp.methods.masks import MaskSchedule, drop_rates


class DropPath(Method):
    """Droppath per example with kept branches scaled by 1/keep, as timm's ``DropPath`` does.

    Options:
        rate: drop probability of the deepest unit, in [0, 1); at 0 the method is vanilla.
        schedule: how the rate grows with depth, ``linear`` (as in timm) or ``uniform``.
    """

    rate: Rate = 0.2
    schedule: MaskSchedule = "linear"

    drops_units: ClassVar[bool] = True

    def iteration(self, step: int, *, units: int, batch_size: int, seed: int) -> Iteration:
        if self.rate == 0:
            return FULL
        rates = drop_rates(self.rate, units, self.schedule)
        kept = rng.generator(seed, "mask", step).random((units, batch_size)) >= rates[:, None]
        return Iteration("drop", active=kept, scale=(1 / (1 - rates)).astype(np.float32))
