"""Linear CKA in mini-batches, against its formula and against known cases."""

from itertools import permutations

import numpy as np
import pytest
import torch

from rdp.probes.cka import minibatch_cka
from tests.helpers.tiny import gaussian


def gram(z: torch.Tensor) -> list[list[float]]:
    rows = z.double().tolist()
    return [[sum(a * b for a, b in zip(u, v, strict=True)) * (u is not v) for v in rows] for u in rows]


def hsic_by_formula(k: list[list[float]], m: list[list[float]]) -> float:
    """Equation 5 of Song et al. (2012), term by term."""
    n = len(k)
    trace = product = 0.0
    for i in range(n):
        for j in range(n):
            trace += k[i][j] * m[j][i]
            product += sum(k[i][q] * m[q][j] for q in range(n))
    sums = sum(map(sum, k)) * sum(map(sum, m))
    return (trace + sums / ((n - 1) * (n - 2)) - 2 * product / (n - 2)) / (n * (n - 3))


def hsic_by_definition(k: list[list[float]], m: list[list[float]]) -> float:
    """The mean over all four different examples, of which the formula is a short form."""
    terms = [k[i][j] * (m[i][j] + m[q][r] - 2 * m[i][q]) for i, j, q, r in permutations(range(len(k)), 4)]
    return sum(terms) / len(terms)


def cka(pairs: list[tuple[torch.Tensor, torch.Tensor]], hsic=hsic_by_formula) -> float:
    """CKA of the HSIC averaged over minibatches, each a pair of features."""
    grams = [(gram(z), gram(w)) for z, w in pairs]
    cross, own, other = (sum(hsic(*pick(k, m)) for k, m in grams) for pick in (_both, _first, _second))
    return cross / (own * other) ** 0.5


def _both(k, m):
    return k, m


def _first(k, m):
    return k, k


def _second(k, m):
    return m, m


class TestCka:
    @pytest.mark.parametrize("hsic", [hsic_by_formula, hsic_by_definition])
    def test_is_that_of_the_unbiased_estimator(self, hsic):
        features = [gaussian(7, 3), gaussian(7, 5, seed=1) + 2, gaussian(7, 3).relu()]
        others = [gaussian(7, 3) + gaussian(7, 3, seed=2), gaussian(7, 1, seed=3)]
        expected = [[cka([(z, w)], hsic) for w in others] for z in features]
        found = minibatch_cka(features, others)
        assert found.shape == (3, 2)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    @pytest.mark.parametrize(("n", "parts"), [(24, [12, 12]), (26, [13, 13]), (29, [15, 14]), (23, [23])])
    def test_averages_the_estimator_over_minibatches(self, n, parts):
        z, w = gaussian(n, 4), gaussian(n, 4) + gaussian(n, 4, seed=1)
        expected = cka(list(zip(z.split(parts), w.split(parts), strict=True)))
        assert minibatch_cka([z], [w], batch=12)[0, 0] == pytest.approx(expected, rel=1e-9)
        if len(parts) > 1:
            assert minibatch_cka([z], [w], batch=n)[0, 0] != pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize(
        "change",
        [
            lambda z: z,
            lambda z: z @ torch.linalg.qr(gaussian(8, 8, seed=5).double())[0],
            lambda z: 1e-3 * z,
            lambda z: z + gaussian(8, seed=6),
        ],
        ids=["same", "rotated", "scaled", "shifted"],
    )
    def test_is_1_for_equal_features(self, change):
        z = gaussian(128, 8).double()
        assert minibatch_cka([z], [change(z)])[0, 0] == pytest.approx(1, abs=1e-9)

    def test_is_not_1_for_features_stretched_along_one_axis(self):
        z = gaussian(128, 8)
        assert minibatch_cka([z], [z * torch.tensor([9.0] + [1] * 7)])[0, 0] < 0.6

    def test_is_near_0_for_independent_features_where_the_biased_estimator_is_not(self):
        draws = [(gaussian(64, 32, seed=2 * i), gaussian(64, 32, seed=2 * i + 1)) for i in range(50)]
        assert abs(np.mean([minibatch_cka([z], [w])[0, 0] for z, w in draws])) < 0.02
        assert np.mean([self.biased(z, w) for z, w in draws]) > 0.2

    @staticmethod
    def biased(z: torch.Tensor, w: torch.Tensor) -> float:
        k, m = ((c := u - u.mean(0)) @ c.T for u in (z, w))
        return ((k * m).sum() / (k.norm() * m.norm())).item()

    def test_is_nan_for_constant_features(self):
        z, constant = gaussian(150, 4), torch.tensor([0.1, 0.3, 1 / 3, 1e6 / 7], dtype=torch.double).expand(150, 4)
        assert (constant - constant.mean(0)).any()  # its own mean is not quite it
        found = minibatch_cka([z, constant], [z, constant])
        np.testing.assert_array_equal(np.isnan(found), [[False, True], [True, True]])

    def test_is_known_for_features_constant_in_one_minibatch(self):
        z = torch.cat([gaussian(64, 4), torch.ones(64, 4)])
        assert minibatch_cka([z], [z])[0, 0] == pytest.approx(1, abs=1e-9)

    @pytest.mark.parametrize(("sizes", "batch"), [((3, 3), 64), ((8, 8), 3), ((8, 9), 64)])
    def test_refuses_what_the_estimator_is_not_defined_for(self, sizes, batch):
        with pytest.raises(ValueError, match="at least 4 examples"):
            minibatch_cka([torch.ones(sizes[0], 2)], [torch.ones(sizes[1], 2)], batch)
