"""A model to be measured, and what was found on it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Case:
    """A model of other people.

    Attributes:
        name: of the model.
        build: makes it, with random weights.
        inputs: makes the inputs of its forward pass; the one named ``x`` is positional.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Any]]


@dataclass
class Finding:
    """What was found on one model.

    Attributes:
        name: of the model.
        verdict: ``correct``, ``wrong`` (silently), ``in part, said``, ``in part, unsaid``, ``crash`` or ``refused``.
        reason: what is wrong, or the sentence of the refusal.
        skips: number of residual branches with an identity skip and parameters of their own, nested ones aside.
        covered: how many of these a unit drops.
        units: number of units.
        seconds: that the measurement took.
    """

    name: str
    verdict: str = "correct"
    reason: str = ""
    skips: int = 0
    covered: int = 0
    units: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def residual_refusal(self) -> bool:
        """Whether a model with residual branches was refused."""
        return self.verdict == "refused" and self.skips > 0

    @property
    def row(self) -> str:
        numbers = f"{self.units:3} units {self.covered:3}/{self.skips:<3} skips {self.seconds:5.1f} s"
        return f"{self.name:44} {self.verdict:15} {numbers}  {'; '.join([self.reason, *self.notes]).strip('; ')}"
