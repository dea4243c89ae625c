"""Coders: the linear maps of PNNH layers, each shared by layers of equal shape (arXiv 2402.08645).

A coder is used at every layer, so its powers and the sum of its gradients over all uses act on the network. An
unconstrained coder explodes or vanishes. Hence the constraints, and a learning rate divided by the number of uses.
"""

import math

import numpy as np
import torch
from torch import nn

from rdp.methods.options import PnnhOptions

_GROUP_SIZES = {"stage": None, "pair": 2, "none": 1}


class Coder(nn.Module):
    """A linear map from ``width`` to ``rows`` <= ``width`` channels, used by ``uses`` layers. ``coder()`` returns C.

    A trained coder is one of

    ``orthogonal``: C = the first rows of exp(A - A^T) S, with S the start. So C C^T = I for any A, to a rounding
        error that grows with the norm of A - A^T.
    ``spectral``: C = W / max(1, largest singular value of W).
    ``none``: C = W.

    Weight decay pulls A to 0, and so C to its start; it pulls W to 0.
    """

    fixed: torch.Tensor | None
    start: torch.Tensor | None

    def __init__(self, width: int, rows: int, uses: int, options: PnnhOptions | None = None) -> None:
        super().__init__()
        options = options or PnnhOptions()
        self.rows, self.uses = rows, uses
        self.constraint, self.kind = options.constraint, options.start
        start = torch.eye(width)[:rows]
        orthogonal = options.trained and self.constraint == "orthogonal"
        self.register_buffer("fixed", None if options.trained else start)
        self.register_buffer("start", torch.eye(width) if orthogonal and self.kind != "identity" else None)
        self.skew = nn.Parameter(torch.zeros(width, width)) if orthogonal else None
        self.weight = nn.Parameter(start) if options.trained and not orthogonal else None
        for parameter in self.parameters():  # attributes that `rdp.training.optimizers` reads
            vars(parameter).update(
                learning_rate_factor=options.learning_rate_factor or 1 / uses, no_weight_decay=not options.decay
            )

    @torch.no_grad()
    def draw_start(self, generator: np.random.Generator) -> None:
        """Draw the start: ``orthogonal`` from the uniform (Haar) distribution, ``he`` with variance 2 / width."""
        if self.kind == "identity":
            return
        target = next(tensor for tensor in (self.fixed, self.weight, self.start) if tensor is not None)
        width = target.shape[1]
        normal = generator.standard_normal((width, width))
        if self.kind == "he":
            matrix = normal * math.sqrt(2 / width)
        else:
            q, r = np.linalg.qr(normal)
            matrix = q * np.sign(np.diag(r))  # without the signs, the distribution depends on the algorithm
        target.copy_(torch.from_numpy(matrix[: len(target)]))

    def forward(self) -> torch.Tensor:
        if self.fixed is not None:
            return self.fixed
        source = self.weight if self.skew is None else self.skew
        assert source is not None
        if self.constraint == "none":
            return source
        device = "cpu" if source.is_meta else source.device.type  # autocast does not know the meta device
        with torch.autocast(device, enabled=False):
            code: torch.Tensor
            if self.constraint == "spectral":
                code = source / torch.linalg.matrix_norm(source, 2).clamp(min=1)
            else:
                rotation = torch.linalg.matrix_exp(source - source.T)
                code = (rotation if self.start is None else rotation @ self.start)[: self.rows]
        return code


class Coders(nn.ModuleList):
    """The coders of ``layers`` layers of equal shape. ``coders()`` computes each once and lists one C per layer."""

    def __init__(self, width: int, rows: int, layers: int, options: PnnhOptions) -> None:
        size = _GROUP_SIZES[options.sharing] or layers
        self.users = [min(size, layers - first) for first in range(0, layers, size)]
        super().__init__(Coder(width, rows, uses, options) for uses in self.users)

    def forward(self) -> list[torch.Tensor]:
        return [code for coder, uses in zip(self, self.users, strict=True) for code in [coder()] * uses]


def apply_coder(code: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """C x along the channels of x, of shape (batch, channels, height, width) or (batch, …, channels)."""
    if x.dim() == 4:
        return nn.functional.conv2d(x, code[:, :, None, None])
    return nn.functional.linear(x, code)
