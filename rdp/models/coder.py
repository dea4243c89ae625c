"""Coders: the linear maps of PNNH layers, each shared by layers of equal shape (arXiv 2402.08645).

A coder is used at every layer, so its powers, and the sum of its gradients over all uses, act on the network: a
free one explodes or vanishes. Hence the constraints, and a learning rate divided by the number of uses.
"""

import math

import numpy as np
import torch
from torch import nn

from rdp.methods.options import PnnhOptions

_GROUPS = {"stage": None, "pair": 2, "none": 1}


class Coder(nn.Module):
    """A linear map from ``width`` to ``rows`` <= ``width`` channels. Calling it computes C, shape (rows, width).

    Args:
        width, rows: of what it reads and writes.
        uses: how many layers share it.
        options: its constraint, start and training.

    A trained coder is one of
        ``orthogonal``: C = the first rows of exp(A - A^T) S with S the start, so C C^T = I whatever the optimizer
            does to A, to a rounding error that grows with the norm of A - A^T;
        ``spectral``: C = W / max(1, largest singular value of W);
        ``none``: C = W.
    Weight decay, where it is on, pulls A to 0, and so C to its start; W to 0.
    """

    def __init__(self, width: int, rows: int, uses: int, options: PnnhOptions | None = None) -> None:
        super().__init__()
        options = options or PnnhOptions()
        self.rows, self.uses = rows, uses
        self.constraint, self.kind = options.constraint, options.start
        start = torch.eye(width)[:rows]
        if not options.trained:
            self.register_buffer("fixed", start)
            return
        if self.constraint == "orthogonal":
            parameter = self.skew = nn.Parameter(torch.zeros(width, width))
            if self.kind != "identity":
                self.register_buffer("start", torch.eye(width))
        else:
            parameter = self.weight = nn.Parameter(start)
        parameter.learning_rate_factor = options.learning_rate_factor or 1 / uses
        parameter.no_weight_decay = not options.decay

    @torch.no_grad()
    def draw_start(self, generator: np.random.Generator) -> None:
        """Draw the start: orthogonal from the uniform (Haar) distribution, he with variance 2 / width."""
        if self.kind == "identity":
            return
        target = next(getattr(self, name) for name in ("fixed", "weight", "start") if hasattr(self, name))
        width = target.shape[1]
        normal = generator.standard_normal((width, width))
        if self.kind == "he":
            drawn = normal * math.sqrt(2 / width)
        else:
            q, r = np.linalg.qr(normal)
            drawn = q * np.sign(np.diag(r))  # without the signs, the distribution depends on the algorithm
        target.copy_(torch.from_numpy(drawn[: len(target)]))

    def forward(self) -> torch.Tensor:
        if hasattr(self, "fixed"):
            return self.fixed
        if self.constraint == "none":
            return self.weight
        source = self.skew if self.constraint == "orthogonal" else self.weight
        device = "cpu" if source.is_meta else source.device.type  # a count without numbers knows no autocast
        with torch.autocast(device, enabled=False):
            if self.constraint == "spectral":
                return source / torch.linalg.matrix_norm(source, 2).clamp(min=1)
            rotation = torch.linalg.matrix_exp(source - source.T)
            return (rotation if self.kind == "identity" else rotation @ self.start)[: self.rows]


class Coders(nn.ModuleList):
    """The coders of ``layers`` layers of equal shape. Calling it computes each once, and lists one C a layer."""

    def __init__(self, width: int, rows: int, layers: int, options: PnnhOptions) -> None:
        group = _GROUPS[options.sharing] or layers
        self.users = [min(group, layers - first) for first in range(0, layers, group)]
        super().__init__(Coder(width, rows, uses, options) for uses in self.users)

    def forward(self) -> list[torch.Tensor]:
        return [code for coder in self for code in [coder()] * coder.uses]


def apply_coder(code: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """C x along the channels: x of shape (batch, channels, height, width), or (batch, …, channels)."""
    if x.dim() == 4:
        return nn.functional.conv2d(x, code[:, :, None, None])
    return nn.functional.linear(x, code)
