"""Plain: the same layers without residual connections, trained as usual."""

from typing import Literal

from rdp.methods import Method


class Plain(Method):
    """A plain network (arXiv 2402.08645): each layer reads only what the layer before it wrote."""

    path: Literal["plain"] = "plain"
