"""Coders: the linear maps of PNNH layers, each shared by layers of equal shape (arXiv 2402.08645).

A coder is used at every layer, so its powers and the sum of its gradients over all uses act on the network. An
unconstrained coder explodes or vanishes. Hence the constraints, and a learning rate divided by the number of uses.
"""

import math

import numpy as np
import torch
from torch import nn

from rdp.methods.options import PnnhOptions
from rdp.models.initialisation import centred

_GROUP_SIZES = {"stage": None, "pair": 2, "none": 1}
_SELECTIONS = ("identity", "shift", "permutation")

# What `apply_coder` accepts: a matrix (rows, width), a kernel (rows, width, k, k), or a selection of channels, as an
# integer tensor or, if they are contiguous, as (first, count) pairs.
Code = torch.Tensor | tuple[tuple[int, int], ...]


class Coder(nn.Module):
    """A linear map from ``width`` to ``rows`` <= ``width`` channels, used by ``uses`` layers. ``coder()`` returns C.

    A trained coder is one of

    ``orthogonal``: C = the first rows of exp(A - A^T) S, with S the start. So C C^T = I for any A, to a rounding
        error that grows with the norm of A - A^T.
    ``spectral``: C = W / max(1, largest singular value of W).
    ``none``: C = W.

    Weight decay pulls A to 0, and so C to its start; it pulls W to 0. A fixed coder that starts as a selection of
    channels copies them instead of multiplying.

    Args:
        width: channels that it reads.
        rows: channels that it writes.
        uses: number of layers that use it.
        options: its constraint and start. In ``window`` it keeps the first channels, ``input_share`` of the width.
        kernel: sides of a convolution kernel, () for a matrix. A kernel of the identity is 0 but at its centre.
    """

    fixed: torch.Tensor | None
    start: torch.Tensor | None

    def __init__(self, width: int, rows: int, uses: int, options: PnnhOptions, kernel: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.width, self.rows, self.uses, self.kernel = width, rows, uses, kernel
        self.constraint, self.kind = options.constraint, options.start
        self.kept = round(options.input_share * width)  # channels that hold the stage's input
        selects = self.kind in _SELECTIONS and not kernel
        self.selects = selects and not options.trained
        order = self._order()
        orthogonal = options.trained and self.constraint == "orthogonal"
        fixed = order[:rows] if self.selects else self._identity(order)[:rows]
        self.register_buffer("fixed", None if options.trained else fixed)
        self.register_buffer("start", self._identity(order) if orthogonal and self.kind != "identity" else None)
        self.skew = nn.Parameter(torch.zeros(width, width)) if orthogonal else None
        trained = options.trained and not orthogonal
        self.weight = nn.Parameter(self._identity(order)[:rows]) if trained else None
        # Of the module, because copies, `load_state_dict(assign=True)` and FSDP make new parameters.
        self.learning_rate_factor = options.learning_rate_factor or 1 / uses
        self.decays = options.decay

    def no_weight_decay(self) -> set[str]:
        """The names of its parameters that no weight decay applies to, as timm's models list theirs."""
        return set() if self.decays else {"skew", "weight"}

    def _order(self) -> torch.Tensor:
        """The input channel that each output channel copies at the start; a shift drops the oldest learnt ones."""
        order = torch.arange(self.width)
        if self.kind == "shift":
            order[self.kept :] = order[self.kept :].roll(self.rows - self.width)
        return order

    def _identity(self, order: torch.Tensor) -> torch.Tensor:
        """Rows of the identity in this order, or kernels with them at the centre."""
        return centred(torch.eye(self.width)[order], self.kernel)

    @torch.no_grad()
    def draw_start(self, generator: np.random.Generator) -> None:
        """Draw the start.

        ``orthogonal`` is uniform over orthogonal matrices (the Haar distribution), ``he`` has variance 2 / fan-in, and
        ``permutation`` is uniform over those of the channels that do not hold the stage's input.
        """
        if self.kind in {"identity", "shift"}:
            return
        target = next(tensor for tensor in (self.fixed, self.weight, self.start) if tensor is not None)
        if self.kind == "permutation":
            order = torch.arange(self.width)
            order[self.kept :] = torch.from_numpy(self.kept + generator.permutation(self.width - self.kept))
            target.copy_((order if self.selects else self._identity(order))[: len(target)])
            return
        if self.kind == "he":
            normal = generator.standard_normal((self.width, self.width, *self.kernel))
            matrix = normal * math.sqrt(2 / normal[0].size)
        else:
            q, r = np.linalg.qr(generator.standard_normal((self.width, self.width)))
            matrix = q * np.sign(np.diag(r))  # without the signs, the distribution depends on the algorithm
        target.copy_(torch.from_numpy(matrix[: len(target)]))

    def forward(self) -> torch.Tensor:
        if self.fixed is not None:
            return as_matrix(self.fixed, self.width) if self.selects else self.fixed
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

    def code(self) -> Code:
        """C in the form that `apply_coder` applies with the fewest operations."""
        if not self.selects:
            code: torch.Tensor = self()
            return code
        if self.kind == "permutation":
            assert self.fixed is not None
            return self.fixed
        if self.kind == "identity":
            return ((0, self.rows),)
        moved = (self.width - self.rows + self.kept, self.rows - self.kept)
        return ((0, self.kept), moved) if self.kept else (moved,)


class Coders(nn.ModuleList):
    """The coders of ``layers`` layers of equal shape. ``coders()`` computes each once and lists one code per layer.

    With 0 ``rows`` there are no coders, and the codes are None.
    """

    def __init__(self, width: int, rows: int, layers: int, options: PnnhOptions, kernel: tuple[int, ...] = ()) -> None:
        size = _GROUP_SIZES[options.sharing] or layers
        self.users = [min(size, layers - first) for first in range(0, layers, size)]
        super().__init__(Coder(width, rows, uses, options, kernel) for uses in self.users if rows)

    def forward(self) -> list[Code | None]:
        if not len(self):
            return [None] * sum(self.users)
        coders = [coder for coder in self if isinstance(coder, Coder)]
        return [code for coder, uses in zip(coders, self.users, strict=True) for code in [coder.code()] * uses]


def apply_coder(code: Code, x: torch.Tensor) -> torch.Tensor:
    """C x along the channels of x, of shape (batch, channels, height, width) or (batch, …, channels)."""
    axis = channel_axis(x)
    if isinstance(code, tuple):
        parts = [x.narrow(axis, first, count) for first, count in code]
        return parts[0] if len(parts) == 1 else torch.cat(parts, axis)
    if not code.is_floating_point():
        return x.index_select(axis, code)
    if x.dim() != 4:
        return nn.functional.linear(x, code)
    kernel = code if code.dim() == 4 else code[:, :, None, None]
    return nn.functional.conv2d(x, kernel, padding=(kernel.shape[2] // 2, kernel.shape[3] // 2))


def as_matrix(code: Code, width: int) -> torch.Tensor:
    """The matrix or kernel C of a code for ``width`` channels."""
    if isinstance(code, tuple):
        return torch.cat([torch.eye(width)[first : first + count] for first, count in code])
    return code if code.is_floating_point() else torch.eye(width, device=code.device)[code]


def channel_axis(x: torch.Tensor) -> int:
    """The axis of the channels of x: 1 for images, otherwise the last."""
    return 1 if x.dim() == 4 else -1
