"""PNNH: plain layers with an internal path through a shared coder (arXiv 2402.08645)."""

from typing import Literal

from rdp.methods import Method
from rdp.methods.options import PnnhOptions


class Pnnh(PnnhOptions, Method):
    """A network following the Plain Neural Net Hypothesis, with the options of `PnnhOptions`."""

    path: Literal["pnnh"] = "pnnh"

    def path_options(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in PnnhOptions.model_fields}
