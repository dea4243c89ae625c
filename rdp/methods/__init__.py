"""Training methods, one file each. A method maps an optimizer step to an `Iteration`.

To add a method, write ``extensions/methods/NAME.py`` in the working directory (see `rdp.utils.extensions` for
installed packages). The methods of this package are in ``rdp/methods/schedules/``. Both kinds of file follow the same
contract:

- The file name is the method's name.
- The file defines exactly one subclass of `Method`. Its pydantic fields are the method's options.
- The subclass overrides `Method.iteration`, which returns the units to compute and the parameters to train. Methods
  that drop residual branches extend `rdp.methods.dropping.Dropping` or `BatchDropping` instead, and override ``drop``.
- `Method.iteration` is a pure function of its arguments, so that a resumed run repeats the same iterations.
- The module does not import torch, because planning imports it. `rdp.models.units` applies an iteration to a network.

No other module imports a method by name, so a new method retrains nothing else.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rdp.errors import UserError, choices
from rdp.methods import schedules
from rdp.utils import extensions

FrozenNorm = Literal["update", "batch", "eval"]
Granularity = Literal["branch", "block"]
Path = Literal["residual", "plain", "pnnh"]
Rate = Annotated[float, Field(ge=0, lt=1, description="drop probability of the deepest unit")]


@dataclass(frozen=True, eq=False)
class Iteration:
    """One optimizer step: the active units and the trained parameters.

    Attributes:
        kind: name of the step for logs and statistics: ``full``, ``drop``, ``recover`` or ``freeze``.
        active: units to compute, booleans of shape (units,) for the whole mini-batch or (units, batch) per example;
            None for all.
        scale: factor on the output of each active branch, shape (units,); None for 1.
        trained: units whose parameters are trained, booleans of shape (units,); None for all. Other units are frozen:
            their gradients are None, so neither momentum nor weight decay changes them.
        rest_trained: whether parameters outside all units (stem, down-sampling, head) are trained.
        frozen_norm: behaviour of batch normalisation in frozen modules: ``update`` normalises by batch statistics and
            updates the running ones, ``batch`` normalises by batch statistics only, ``eval`` normalises by the
            running statistics.
        batch: step whose mini-batch is used; None for this step's own.
        learning_rate_scale: factor on the learning rate of every parameter in this step.
    """

    kind: str
    active: np.ndarray | None = None
    scale: np.ndarray | None = None
    trained: np.ndarray | None = None
    rest_trained: bool = True
    frozen_norm: FrozenNorm = "update"
    batch: int | None = None
    learning_rate_scale: float = 1.0

    def of(self, examples: slice) -> "Iteration":
        """The same iteration for some examples of the mini-batch: selects their columns of a per-example mask."""
        if self.active is None or self.active.ndim == 1:
            return self
        return replace(self, active=self.active[:, examples])


FULL = Iteration("full")


@dataclass(frozen=True)
class Training:
    """What a method knows about the training that it plans.

    Attributes:
        units: number of droppable units in the network.
        batch_size: number of examples in a mini-batch.
        seed: seed of the run.
        steps: number of optimizer steps from the first to the last; None if it is not known, as in a user's loop.
        steps_per_epoch: number of optimizer steps in an epoch; None if it is not known.
    """

    units: int
    batch_size: int
    seed: int
    steps: int | None = None
    steps_per_epoch: int | None = None

    def require(self, number: Literal["steps", "steps_per_epoch"], option: str) -> int:
        """A number of steps that an option needs; raises `UserError` that names the option if it is not known."""
        value: int | None = getattr(self, number)
        if value is None:
            what = {"steps": "optimizer steps of the training", "steps_per_epoch": "optimizer steps in an epoch"}
            raise UserError(f"{option}: needs the number of {what[number]}; pass {number}")
        return value


class Method(BaseModel):
    """A path and a training schedule, with the options of both.

    Attributes:
        path: how a block combines its input and output.
        drops_units: whether the schedule drops residual branches, and therefore needs a residual network.
        per_example: whether masks differ between the examples of a mini-batch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: Path = "residual"

    drops_units: ClassVar[bool] = False
    per_example: ClassVar[bool] = False

    @classmethod
    def name(cls) -> str:
        """The name of the method, which is the name of its file."""
        return cls.__module__.rpartition(".")[2]

    @property
    def unit_granularity(self) -> Granularity:
        """What one element of a mask drops: a residual branch or a whole block."""
        return "branch"

    def path_options(self) -> dict[str, object]:
        """Options for building the blocks of the path."""
        return {}

    def conflict(self) -> str | None:
        """The reason why these options contradict each other; None if they are consistent."""
        if self.drops_units and self.path != "residual":
            return f"{self.name()} drops residual branches, and a {self.path} network has none"
        return None

    def check(self, training: Training) -> None:
        """Raise `UserError` if an option needs a number of steps that ``training`` does not have."""

    def iteration(self, step: int, training: Training) -> Iteration:
        """The iteration of one optimizer step, numbered from 0; a pure function of its arguments."""
        return FULL


@cache
def available() -> tuple[str, ...]:
    """The names of all methods, without importing any of them."""
    return tuple(sorted(extensions.modules(schedules)))


@cache
def method_class(name: str) -> type[Method]:
    """The class of a method; raises `UserError` for an unknown name."""
    if name not in available():
        raise UserError(f"unknown method '{name}'; {choices(name, available())}")
    module = extensions.load(f"{__name__}.schedules.{name}")
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise UserError(f"{module.__file__}: defines {len(classes)} subclasses of Method; define exactly one")
    return classes[0]
