"""Base classes for methods that drop residual branches: drop rates, masks and branch scaling."""

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from rdp.methods import FULL, Granularity, Iteration, Method, Rate
from rdp.utils import rng

MaskSchedule = Literal["linear", "uniform"]


def drop_rates(rate: float, units: int, schedule: MaskSchedule) -> np.ndarray:
    """The drop probability of each unit, shape (units,), from the shallowest to the deepest.

    ``linear`` increases from 0 to ``rate``, as in stochastic depth (arXiv 1603.09382, section 3) and timm.
    ``uniform`` gives every unit ``rate``. A single unit has ``rate`` in both.
    """
    if units < 1:
        raise ValueError(f"the network has no droppable units ({units} units)")
    if schedule == "uniform" or units == 1:
        return np.full(units, rate)
    return np.linspace(0.0, rate, units)


def draw(rates: np.ndarray, generator: np.random.Generator, *, nonempty: bool) -> np.ndarray:
    """Draw independent Bernoulli variables: True for dropped units, shape (units,).

    With ``nonempty``, the draw is conditional on at least one dropped unit. Rejection sampling has the same
    distribution but is slow for small rates. Instead, the index of the first dropped unit is drawn from its conditional
    distribution, and the later units independently.
    """
    uniform = generator.random(len(rates))
    dropped = uniform < rates
    if not nonempty:
        return dropped
    none_before = np.concatenate([[1.0], np.cumprod(1.0 - rates)[:-1]])
    first_cdf = np.cumsum(none_before * rates)
    if not first_cdf[-1] > 0:
        raise ValueError("no unit can be dropped: every rate is 0")
    first = int(np.searchsorted(first_cdf, generator.random() * first_cdf[-1], side="right"))
    dropped[:first] = False
    dropped[first] = True
    return dropped


class Dropping(Method):
    """A schedule that drops units of a residual network at random.

    Options:
        rate: drop probability of the deepest unit, in [0, 1). Rate 0 is vanilla training, by definition.
        schedule: drop rate by depth: ``linear`` (as in timm) or ``uniform``.
        scaling: factor on the branches that are not dropped: ``keep`` for 1 / (1 - drop rate), which preserves the
            expected output as in timm, or ``none`` for 1.
        granularity: what is dropped as one unit: a residual ``branch``, or all branches of a ``block`` (attention and
            MLP of a transformer block). They are equal if each block has one branch.
    """

    rate: Rate = 0.2
    schedule: MaskSchedule = "linear"
    scaling: Literal["keep", "none"] = "keep"
    granularity: Granularity = "branch"

    drops_units: ClassVar[bool] = True

    @property
    def unit_granularity(self) -> Granularity:
        return self.granularity

    def iteration(self, step: int, *, units: int, batch_size: int, seed: int) -> Iteration:
        if self.rate == 0:
            return FULL
        rates = drop_rates(self.rate, units, self.schedule)
        return self.drop(step, rates, batch_size, seed)

    @abstractmethod
    def drop(self, step: int, rates: np.ndarray, batch_size: int, seed: int) -> Iteration:
        """The iteration of a step, given the drop rate of each unit, shape (units,), at least one of them positive."""

    def scale(self, rates: np.ndarray) -> np.ndarray | None:
        """The factor on each active branch, shape (units,); None for a factor of 1."""
        return (1 / (1 - rates)).astype(np.float32) if self.scaling == "keep" else None


class BatchDropping(Dropping):
    """A schedule with one mask for the whole mini-batch.

    A parameter is either frozen or trained in a step, so methods that freeze need one mask for all examples.

    Options:
        redraw: whether a mask that drops no unit is drawn again. Otherwise such a step is a full iteration.
    """

    redraw: bool = Field(True, description="draw a mask again if it drops no unit")

    def mask(self, index: int, rates: np.ndarray, seed: int) -> np.ndarray:
        """The units that the mask with this index drops, booleans of shape (units,)."""
        return draw(rates, rng.generator(seed, "mask", index), nonempty=self.redraw)
