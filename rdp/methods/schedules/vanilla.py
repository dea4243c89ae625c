"""Vanilla: every residual branch active and trained in every iteration."""

from typing import Literal

from rdp.methods import Method


class Vanilla(Method):
    """A residual network trained as usual: the baseline of both papers."""

    path: Literal["residual"] = "residual"
