"""Plain: the same layers without residual connections."""

from typing import Literal

from rdp.methods import Method


class Plain(Method):
    """A plain network (arXiv 2402.08645): each layer reads only the output of the previous layer."""

    path: Literal["plain"] = "plain"
