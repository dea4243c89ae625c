"""What methods that drop residual branches share: their rates, their masks and the scale of what is kept."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from rdp.methods import FULL, Granularity, Iteration, Method, Rate
from rdp.methods.masks import MaskSchedule, draw, drop_rates
from rdp.utils import rng


class Dropping(Method):
    """A schedule over masks of a residual network's units.

    Options:
        rate: drop probability of the deepest unit, in [0, 1); at 0 the method is vanilla, by definition.
        schedule: how the rate grows with depth, ``linear`` (as in timm) or ``uniform``.
        scaling: what a kept branch is multiplied with: ``keep`` for 1 / (1 - its rate), so that the expected sum
            is the full network's, as timm does; ``none`` for 1.
        granularity: what is dropped as one: a ``branch``, or all branches of a ``block`` (attention and MLP of a
            transformer's block; the same thing where a block has but one branch).
    """

    rate: Rate = 0.2
    schedule: MaskSchedule = "linear"
    scaling: Literal["keep", "none"] = "keep"
    granularity: Granularity = "branch"

    drops_units: ClassVar[bool] = True

    @property
    def units_are(self) -> Granularity:
        return self.granularity

    def iteration(self, step: int, *, units: int, batch_size: int, seed: int) -> Iteration:
        if self.rate == 0:
            return FULL
        rates = drop_rates(self.rate, units, self.schedule)
        return self.drop(step, rates, batch_size, seed)

    def drop(self, step: int, rates: np.ndarray, batch_size: int, seed: int) -> Iteration:
        """The iteration of a step, the units' rates being ``rates`` and one of them at least above 0."""
        raise NotImplementedError

    def scale(self, rates: np.ndarray) -> np.ndarray | None:
        """The factor on each kept branch, shape (units,); None for one."""
        return (1 / (1 - rates)).astype(np.float32) if self.scaling == "keep" else None


class BatchDropping(Dropping):
    """A schedule over masks that hold for a whole mini-batch.

    A parameter cannot be both frozen and trained in one step, so what is trained needs one mask for all examples.

    Options:
        redraw: whether a mask that drops nothing is drawn again; where not, its steps are full ones.
    """

    redraw: bool = Field(True, description="draw a mask that drops nothing again")

    def mask(self, number: int, rates: np.ndarray, seed: int) -> np.ndarray:
        """What mask number ``number`` drops, booleans of shape (units,)."""
        return draw(rates, rng.generator(seed, "mask", number), nonempty=self.redraw)
