"""Base classes for methods that drop residual branches: drop rates, masks and branch scaling."""

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from rdp.methods import FULL, Granularity, Iteration, Method, Rate, Training
from rdp.utils import rng

MaskSchedule = Literal["linear", "uniform"]


def _check_hold(value: object) -> object:
    if value == "epoch" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"expected epoch or an integer greater than or equal to 1, found {value!r}")


Hold = Annotated[int | Literal["epoch"], BeforeValidator(_check_hold)]


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
        drop_from, drop_until: shares of the training's steps between which units are dropped, as in early and late
            dropout (arXiv 2303.01500). Steps outside are full iterations. In methods whose masks are for pairs of
            steps, both shares are rounded up to a whole pair.
    """

    rate: Rate = 0.2
    schedule: MaskSchedule = "linear"
    scaling: Literal["keep", "none"] = "keep"
    granularity: Granularity = "branch"
    drop_from: float = Field(
        0.0, ge=0, lt=1, description="share of the training's steps before which no unit is dropped"
    )
    drop_until: float = Field(
        1.0, gt=0, le=1, description="share of the training's steps after which no unit is dropped"
    )

    drops_units: ClassVar[bool] = True
    steps_per_draw: ClassVar[int] = 1  # consecutive steps that belong together and use one mask

    @field_validator("drop_until")
    @classmethod
    def _check_window(cls, until: float, info: ValidationInfo) -> float:
        if until <= (begin := info.data.get("drop_from", 0)):
            raise ValueError(f"expected more than drop_from ({begin:g}), found {until:g}")
        return until

    @property
    def unit_granularity(self) -> Granularity:
        return self.granularity

    def check(self, training: Training) -> None:
        self.window(training)

    def window(self, training: Training) -> tuple[int, float]:
        """The first step in which units are dropped, and the first after the last one; infinity if there is none.

        Both are multiples of ``steps_per_draw``. Raises `UserError` if an option needs an unknown number of steps.
        """
        first: int = 0
        end: float = math.inf
        if self.drop_from > 0:
            first = self._boundary(self.drop_from * training.require("steps", "drop_from"))
        if self.drop_until < 1:
            end = self._boundary(self.drop_until * training.require("steps", "drop_until"))
        return first, end

    def _boundary(self, step: float) -> int:
        """The rounded step, moved up to the begin of a draw."""
        return -(-round(step) // self.steps_per_draw) * self.steps_per_draw

    def iteration(self, step: int, training: Training) -> Iteration:
        if self.rate == 0:
            return FULL
        first, end = self.window(training)
        if not first <= step < end:
            return FULL
        return self.drop(step, drop_rates(self.rate, training.units, self.schedule), training)

    @abstractmethod
    def drop(self, step: int, rates: np.ndarray, training: Training) -> Iteration:
        """The iteration of a step, given the drop rate of each unit, shape (units,), at least one of them positive."""

    def scale(self, rates: np.ndarray) -> np.ndarray | None:
        """The factor on each active branch, shape (units,); None for a factor of 1."""
        return (1 / (1 - rates)).astype(np.float32) if self.scaling == "keep" else None


class BatchDropping(Dropping):
    """A schedule with one mask for the whole mini-batch.

    A parameter is either frozen or trained in a step, so methods that freeze need one mask for all examples.

    Options:
        redraw: whether a mask that drops no unit is drawn again. Otherwise such a step is a full iteration.
        hold: number of consecutive draws that share a mask, or ``epoch`` for all draws that begin in the same epoch. A
            draw is a step, or a pair of steps in methods that alternate. So with 3, three pairs of a drop and a recover
            iteration have the same mask. Methods with equal options and seed draw the same masks.
    """

    redraw: bool = Field(True, description="draw a mask again if it drops no unit")
    hold: Hold = Field(1, description="consecutive draws (pairs of steps in paired methods) with one mask, or epoch")

    def check(self, training: Training) -> None:
        super().check(training)
        if self.hold == "epoch":
            training.require("steps_per_epoch", "hold: epoch")

    def mask(self, step: int, rates: np.ndarray, training: Training) -> np.ndarray:
        """The units that the mask of this step drops, booleans of shape (units,)."""
        draw_index = step // self.steps_per_draw
        if self.hold == "epoch":
            first_step = draw_index * self.steps_per_draw
            index = first_step // training.require("steps_per_epoch", "hold: epoch")
        else:
            index = draw_index // self.hold
        return draw(rates, rng.generator(training.seed, "mask", index), nonempty=self.redraw)
