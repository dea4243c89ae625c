"""PNNH: plain layers with an internal path, a coder shared between them (arXiv 2402.08645)."""

from typing import Literal

from rdp.methods import Method


class Pnnh(Method):
    """A network after the Plain Neural Net Hypothesis, trained as usual.

    Options:
        variant: how learner and coder write a layer's output, see `rdp.models.paths`. ``concat`` has no sum;
            ``sum`` with its orthogonal coder is a residual network in rotated coordinates.
    """

    path: Literal["pnnh"] = "pnnh"
    variant: Literal["concat", "sum"] = "concat"

    def path_options(self) -> dict[str, object]:
        return {"variant": self.variant}
