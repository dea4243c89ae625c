"""Training methods: a method is a function from the step to an `Iteration`.

One file a method. The file's name is the method's name, and the file defines one subclass of `Method`, whose
fields are the method's options. To add a method, add a file: nothing else imports it by name, so nothing else
is retrained. Nothing here imports torch: a method says *what* is active and trained; `rdp.models.units` makes
the network do so.
"""

from functools import cache
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from rdp.errors import UserError, choices
from rdp.methods import schedules
from rdp.methods.iteration import FULL, FrozenNorm, Iteration
from rdp.utils import extensions

__all__ = [
    "FULL",
    "FrozenNorm",
    "Granularity",
    "Iteration",
    "Method",
    "Path",
    "Rate",
    "available",
    "method_class",
]

Granularity = Literal["branch", "block"]
Path = Literal["residual", "plain", "pnnh"]
Rate = Annotated[float, Field(ge=0, lt=1, description="probability of dropping the deepest unit")]


class Method(BaseModel):
    """A path and a training schedule, with the options of both."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: Path = "residual"

    drops_units: ClassVar[bool] = False  # whether the schedule needs residual branches to drop
    per_example: ClassVar[bool] = False  # whether masks are drawn for each example, and not for the mini-batch

    @classmethod
    def name(cls) -> str:
        """The method's name: that of its file."""
        return cls.__module__.rpartition(".")[2]

    @property
    def units_are(self) -> Granularity:
        """What the method's masks count as one unit."""
        return "branch"

    def path_options(self) -> dict[str, object]:
        """Options that the path's blocks are built with."""
        return {}

    def nonsense(self) -> str | None:
        """Why this combination of options makes no sense, or None where it does."""
        if self.drops_units and self.path != "residual":
            return f"{self.name()} drops residual branches, and a {self.path} network has none"
        return None

    def iteration(self, step: int, *, units: int, batch_size: int, seed: int) -> Iteration:
        """What optimizer step ``step`` (from 0) computes and trains, for a network of ``units`` units.

        A pure function: a resumed run asks again and gets the same answer.
        """
        return FULL


@cache
def available() -> tuple[str, ...]:
    """The names of all methods, without importing any of them."""
    return tuple(sorted(extensions.modules(schedules)))


@cache
def method_class(name: str) -> type[Method]:
    """The class of the method called ``name``; raises `UserError` where there is none."""
    if name not in available():
        raise UserError(f"unknown method '{name}'; {choices(name, available())}")
    module = extensions.load(f"{__name__}.schedules.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UserError(f"{module.__file__}: defines {len(found)} subclasses of Method; it must define one")
    return found[0]
