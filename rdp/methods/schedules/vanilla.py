"""Vanilla: every iteration computes and trains every residual branch."""

from typing import Literal

from rdp.methods import Method


class Vanilla(Method):
    """Ordinary training of a residual network, the baseline of both papers."""

    path: Literal["residual"] = "residual"
