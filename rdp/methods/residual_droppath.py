"""ResidualDroppath: drop iterations alternate with iterations that train only what was dropped."""

from typing import ClassVar

import numpy as np

from rdp import rng
from rdp.methods import FULL, Iteration, Method, Rate
from rdp.methods.masks import MaskSchedule, draw_nonempty, drop_rates


class ResidualDropPath(Method):
    """ResidualDroppath (arXiv 2411.09475, abstract): two kinds of iteration in turn.

    Even steps are *drop* iterations: one mask for the mini-batch, drawn anew where it would drop nothing; the
    kept units are computed, scaled by 1/keep, and trained with the stem and the head. Odd steps are *recover*
    iterations with the mask of the step before: every unit is active at its full-network scale, and only the
    units that were dropped are trained. Normalisation layers of frozen units use and update batch statistics.
    Each iteration takes a mini-batch of its own. The abstract gives the two kinds and no more: the unit, the
    mask's law, the scale, the frozen stem and head are choices of this project.

    Options:
        rate: drop probability of the deepest unit, in [0, 1); at 0 the method is vanilla, by definition.
        schedule: how the rate grows with depth, ``linear`` (as in timm) or ``uniform``.
    """

    rate: Rate = 0.2
    schedule: MaskSchedule = "linear"

    drops_units: ClassVar[bool] = True

    def iteration(self, step: int, *, units: int, batch_size: int, seed: int) -> Iteration:
        if self.rate == 0:
            return FULL
        rates = drop_rates(self.rate, units, self.schedule)
        dropped = draw_nonempty(rates, rng.generator(seed, "mask", step // 2))
        if step % 2 == 0:
            scale = (1 / (1 - rates)).astype(np.float32)
            return Iteration("drop", active=~dropped, scale=scale, trained=~dropped)
        return Iteration("recover", trained=dropped, rest_trained=False)
