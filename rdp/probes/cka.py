"""Similarity of features: linear CKA in minibatches, with the unbiased estimator of HSIC."""

import numpy as np
import torch

_SMALLEST = 4  # examples that the unbiased estimator needs


def minibatch_cka(features: list[torch.Tensor], others: list[torch.Tensor], batch: int = 64) -> np.ndarray:
    """Linear CKA of each of ``features`` and each of ``others``, with the unbiased estimator of HSIC.

    arXiv 2010.15327, section 2: HSIC_1 is averaged over minibatches, for the pair and for either alone, and CKA is
    HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L)) of the averages. It is 1 for features that are equal up to a
    rotation, a scale and a shift, and has mean about 0 for independent ones, which can make it negative.

    Args:
        features: one tensor a layer, of shape (n, any width).
        others: the same for the layers to compare with, of the same examples.
        batch: examples in a minibatch; what remains is spread evenly over them.

    Returns:
        Shape (len(features), len(others)), float64; nan where one does not depend on the example.

    Raises:
        ValueError: fewer than 4 examples altogether or in a minibatch, or numbers of examples that differ.
    """
    sizes = {len(z) for z in [*features, *others]}
    if len(sizes) != 1 or min(batch, *sizes) < _SMALLEST:
        raise ValueError(
            f"unbiased CKA needs {_SMALLEST} examples or more, the same for all layers and in every minibatch; got "
            f"{sorted(sizes)} in minibatches of {batch}"
        )
    (n,) = sizes
    cross, own, own_other = (torch.zeros(()) for _ in range(3))
    for rows in torch.arange(n).tensor_split(max(1, n // batch)):
        here, there = (torch.stack([_centred_gram(z[rows]) for z in layers]) for layers in (features, others))
        scale = len(rows) * (len(rows) - 3)
        cross = cross + here @ there.T / scale
        own = own + here.square().sum(1) / scale
        own_other = own_other + there.square().sum(1) / scale
    found: np.ndarray = (cross / (own.sqrt()[:, None] * own_other.sqrt())).cpu().numpy()
    return found


def _centred_gram(z: torch.Tensor) -> torch.Tensor:
    """The Gram matrix of ``z`` without its diagonal, U-centred and flattened: shape (n * n,), float64.

    HSIC_1 of two kernels (Song et al., JMLR 2012, equation 5) is the inner product of their U-centred Gram
    matrices over n (n - 3) (Székely and Rizzo, Annals of Statistics 2014, section 3). Unlike the sum of three
    terms, it cancels nothing.
    """
    n = len(z)
    z = z.double()
    z = z - z[0]  # exactly 0 for a constant, which subtracting a mean alone need not be
    z = z - z.mean(0)  # of no effect but on rounding
    gram = (z @ z.T).fill_diagonal_(0)
    ones = gram.sum(1) / (n - 2)
    centred = gram - ones[:, None] - ones + ones.sum() / (n - 1)
    return centred.fill_diagonal_(0).flatten()
