"""Coders: their distance from the identity and from orthonormal rows, in PNNH networks (arXiv 2402.08645)."""

import math
from typing import Any

import torch

from rdp.models.coder import Coder
from rdp.models.initialisation import centred
from rdp.probes import Subject

MEASURES = "the coders of PNNH networks"
COLUMNS = ("name", "layers", "rows", "distance", "spectral", "orthogonality")


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """The coders C of a network, of shape (rows, width) with rows <= width. It reads no examples.

    A convolution kernel (of ``strict``) is read as a matrix of shape (rows, width * positions).

    Returns:
        One row per coder; no rows for a network without coders.

        ``name``           of the module.
        ``layers``         number of layers that use it.
        ``rows``           number of output channels.
        ``distance``       ||C - I||_F / sqrt(rows) with I the first rows of the identity, at the centre of a kernel: 0
                           for a coder that copies its first channels, about sqrt(2) for a random orthogonal one or one
                           that copies others.
        ``spectral``       the largest singular value.
        ``orthogonality``  ||C C^T - I||_F / sqrt(rows), 0 for orthonormal rows.
    """
    return [_row(name, module) for name, module in subject.network.named_modules() if isinstance(module, Coder)]


def _row(name: str, coder: Coder) -> dict[str, Any]:
    kernels = coder().double()
    identity = centred(torch.eye(coder.rows, coder.width).to(kernels), coder.kernel)
    code = kernels.flatten(1)
    return {
        "name": name,
        "layers": coder.uses,
        "rows": coder.rows,
        "distance": _per_row(code - identity.flatten(1)),
        "spectral": torch.linalg.matrix_norm(code, 2).item(),
        "orthogonality": _per_row(code @ code.T - torch.eye(coder.rows).to(code)),
    }


def _per_row(matrix: torch.Tensor) -> float:
    """The root mean square over rows of their lengths."""
    return float(matrix.norm()) / math.sqrt(len(matrix))
