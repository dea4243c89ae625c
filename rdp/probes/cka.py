"""Linear CKA in minibatches, with the unbiased estimator of HSIC."""

import numpy as np
import torch

_MIN_EXAMPLES = 4  # for the unbiased estimator


def minibatch_cka(features: list[torch.Tensor], others: list[torch.Tensor], batch: int = 64) -> np.ndarray:
    """Linear CKA of each of ``features`` with each of ``others``, with the unbiased estimator of HSIC.

    arXiv 2010.15327, section 2: HSIC_1 is averaged over minibatches for each pair and for each set of features, and
    CKA is HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L)) of the averages. It is 1 for features that are equal up to
    rotation, scale and shift. Its mean is about 0 for independent features, so it can be negative.

    Both lists have one tensor per layer, of shape (n, any width), for the same examples. A remainder of the minibatches
    is spread evenly. Returns float64 of shape (len(features), len(others)); nan where features do not depend on the
    example. Raises `ValueError` for fewer than 4 examples in total or per minibatch, or tensors of different lengths.
    """
    sizes = {len(z) for z in [*features, *others]}
    if len(sizes) != 1 or min(batch, *sizes) < _MIN_EXAMPLES:
        raise ValueError(
            f"unbiased CKA needs at least {_MIN_EXAMPLES} examples, the same number for all layers, in every "
            f"minibatch; got {sorted(sizes)} in minibatches of {batch}"
        )
    (n,) = sizes
    cross, own, own_other = (torch.zeros(()) for _ in range(3))
    for indices in torch.arange(n).tensor_split(max(1, n // batch)):
        gram, other_gram = (torch.stack([_centred_gram(z[indices]) for z in layers]) for layers in (features, others))
        scale = len(indices) * (len(indices) - 3)
        cross = cross + gram @ other_gram.T / scale
        own = own + gram.square().sum(1) / scale
        own_other = own_other + other_gram.square().sum(1) / scale
    cka: np.ndarray = (cross / (own.sqrt()[:, None] * own_other.sqrt())).cpu().numpy()
    return cka


def _centred_gram(z: torch.Tensor) -> torch.Tensor:
    """The Gram matrix of ``z`` without its diagonal, U-centred and flattened: shape (n * n,), float64.

    HSIC_1 of two kernels (Song et al., JMLR 2012, equation 5) is the inner product of their U-centred Gram matrices
    over n (n - 3) (Székely and Rizzo, Annals of Statistics 2014, section 3). Unlike the sum of three terms, it has no
    cancellation.
    """
    n = len(z)
    z = z.double()
    z = z - z[0]  # exactly 0 for a constant, unlike the difference from the mean
    z = z - z.mean(0)  # reduces rounding errors
    gram = (z @ z.T).fill_diagonal_(0)
    ones = gram.sum(1) / (n - 2)
    centred = gram - ones[:, None] - ones + ones.sum() / (n - 1)
    return centred.fill_diagonal_(0).flatten()
