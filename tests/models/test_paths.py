"""PNNH layers: coders, variants, what they share, and what they are in other words."""

import re
from typing import get_args

import pytest
import torch
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions, Variant
from rdp.models.coder import Coder, Coders
from rdp.models.gates import GatedBranch
from rdp.models.paths import Parts, PnnhLayer, PnnhStack, pnnh_layer, pnnh_stack
from rdp.spec import Recipe
from rdp.training.optimizers import make_optimizer
from rdp.utils import rng


def linear(width_in: int, width_out: int) -> nn.Linear:
    return nn.Linear(width_in, width_out, bias=False)


PARTS = Parts(linear=linear, pointwise=linear, norm=nn.BatchNorm1d)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def concat(**options: object) -> PnnhOptions:
    """Options of concat, or of another variant."""
    return PnnhOptions(**{"variant": "concat"} | options)


def made(width: int = 8, depth: int = 3, norm_gain: float = 1.0, **options: object) -> PnnhStack:
    return pnnh_stack(width, depth, PARTS, norm_gain, concat(**options))


class TestCoder:
    @pytest.mark.parametrize("rows", [16, 8])
    def test_it_starts_at_the_identity_exactly(self, rows):
        assert torch.equal(Coder(16, rows, 3, concat())(), torch.eye(16)[:rows])

    @pytest.mark.parametrize("constraint", ["orthogonal", "spectral", "none"])
    @pytest.mark.parametrize("start", ["identity", "orthogonal", "he"])
    @pytest.mark.parametrize("trained", [True, False])
    def test_a_coder_starts_as_its_option_says(self, constraint, start, trained):
        if (constraint, start) == ("orthogonal", "he"):
            return
        coder = Coder(64, 32, 3, concat(constraint=constraint, start=start, trained=trained))
        coder.draw_start(rng.generator(1, "coder"))
        code = coder()
        assert len(list(coder.parameters())) == trained
        if start == "identity":
            assert torch.equal(code, torch.eye(64)[:32])
        elif start == "orthogonal":
            torch.testing.assert_close(code @ code.T, torch.eye(32))
            assert (code - torch.eye(64)[:32]).abs().max() > 0.2
        elif constraint == "none" or not trained:
            assert code.var().item() == pytest.approx(2 / 64, rel=0.1)
        else:
            assert torch.linalg.matrix_norm(code, 2).item() == pytest.approx(1, rel=1e-5)

    def test_a_random_start_is_uniform_over_orthogonal_matrices(self):
        """Under the Haar distribution entries have mean 0 and variance 1 / width; QR alone gives positive diagonals."""
        drawn = []
        for seed in range(400):
            coder = Coder(4, 4, 1, concat(start="orthogonal"))
            coder.draw_start(rng.generator(seed, "coder"))
            drawn.append(coder().detach())
        entries = torch.stack(drawn)
        assert entries.mean(0).abs().max() < 5 * 0.5 / 400**0.5
        torch.testing.assert_close(entries.square().mean(0), torch.full((4, 4), 0.25), rtol=0, atol=0.07)

    def test_the_spectral_constraint_bounds_the_largest_singular_value(self):
        coder = Coder(8, 8, 1, concat(constraint="spectral"))
        for size in (0.3, 1.0, 7.0):
            with torch.no_grad():
                coder.weight.copy_(gaussian(8, 8) * size)
            largest = torch.linalg.matrix_norm(coder.weight, 2)
            torch.testing.assert_close(coder(), coder.weight / max(1, largest))
            coder().square().sum().backward()
            assert coder.weight.grad.isfinite().all()

    @pytest.mark.parametrize(("factor", "expected"), [(None, 1 / 5), (0.7, 0.7)])
    @pytest.mark.parametrize("decay", [True, False])
    @pytest.mark.parametrize("constraint", ["orthogonal", "none"])
    def test_the_optimizer_gets_its_factor_and_decay(self, factor, expected, decay, constraint):
        network = made(8, 5, constraint=constraint, learning_rate_factor=factor, decay=decay)
        (own,) = network.coders[0][0].parameters()
        optimizer = make_optimizer(network, Recipe(weight_decay=0.25))
        (group,) = [group for group in optimizer.groups if any(p is own for p in group.parameters)]
        assert group.learning_rate_factor == expected
        assert group.weight_decay == (0.25 if decay else 0)

    @pytest.mark.parametrize("variant", ["concat", "sum"])
    @pytest.mark.parametrize("name", ["mlp32", "resnet20"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_its_rows_stay_orthonormal_to_rounding_whatever_the_optimizer_does(
        self, dtype, name, variant, make_network, make_batch
    ):
        network = make_network(name, "pnnh", variant=variant).to(dtype)
        coders = [module for module in network.modules() if isinstance(module, Coder)]
        assert len(coders) == (1 if name == "mlp32" else 3)
        optimizer = make_optimizer(network, Recipe())
        for step in range(8):
            x, y = make_batch(name, seed=step)
            nn.functional.cross_entropy(network(x.to(dtype)), y).backward()
            optimizer.step(0.3)
        for coder in coders:
            code = coder()
            identity = torch.eye(code.shape[1], dtype=dtype)[: len(code)]
            assert (code - identity).abs().max() > 0.01  # it did move
            # An exponential's rounding error grows with the norm of its exponent.
            norm = torch.linalg.matrix_norm(coder.skew - coder.skew.T, 2).item()
            rounding = 32 * torch.finfo(dtype).eps * (1 + norm)
            torch.testing.assert_close(code @ code.T, identity[:, : len(code)], rtol=0, atol=rounding)

    @pytest.mark.parametrize(("sharing", "users"), [("stage", [5]), ("pair", [2, 2, 1]), ("none", [1] * 5)])
    def test_a_coder_is_computed_once_however_many_layers_share_it(self, sharing, users):
        network, calls = made(8, 5, sharing=sharing), []
        (coders,) = network.coders
        for coder in coders:
            coder.register_forward_hook(lambda *_: calls.append(1))
        network(gaussian(4, 8))
        assert len(calls) == len(users)
        assert [coder.uses for coder in coders] == users
        assert [coder.learning_rate_factor for coder in coders] == [1 / uses for uses in users]

    def test_each_layer_gets_the_code_of_its_own_coder(self):
        coders = Coders(4, 4, 5, concat(sharing="pair", constraint="none"))
        with torch.no_grad():
            for number, coder in enumerate(coders):
                coder.weight.fill_(number)
        assert [code[0, 0].item() for code in coders()] == [0, 0, 1, 1, 2]

    def test_concat_passes_the_first_half_of_its_input_on_untouched_at_the_start(self):
        x = gaussian(4, 8)
        assert torch.equal(made()(x)[:, :4], x[:, :4])

    def test_sum_at_the_start_is_a_residual_network_of_the_same_layers(self):
        network, x = made(variant="sum"), gaussian(4, 8)
        layers = [GatedBranch(nn.Sequential(found.learner, found.norm, nn.ReLU())) for found in network.layers]
        torch.testing.assert_close(network(x), nn.Sequential(*layers)(x))

    def test_a_fixed_identity_coder_in_sum_is_that_residual_network_for_good(self):
        network = made(variant="sum", trained=False)
        optimizer = make_optimizer(network, Recipe())
        for step in range(3):
            network(gaussian(16, 8, seed=step)).square().mean().backward()
            optimizer.step(0.3)
        assert torch.equal(network.coders[0][0](), torch.eye(8))


# With learners of one layer, and without other widths.
FORMULA = {name: PnnhOptions(variant=name) for name in get_args(Variant) if name != "window"}
FORMULA["window"] = PnnhOptions(variant="window", learner="one", preactivation=False, parameters=None)


class TestLayers:
    """Each variant against its formula, written out."""

    @pytest.mark.parametrize("variant", get_args(Variant))
    def test_is_its_formula(self, variant):
        found = pnnh_layer(8, PARTS, 0.7, FORMULA[variant])
        x, code = gaussian(16, 8), gaussian(found.split.coded or 8, 8, seed=1)
        learnt, coded = found.learner(x), x @ code.T

        def norm(z):
            return 0.7 * (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()

        formulas = {
            "concat": lambda: torch.cat([coded, norm(learnt).relu()], 1),
            "window": lambda: torch.cat([coded, norm(learnt).relu()], 1),
            "strict": lambda: norm(torch.cat([coded, learnt], 1)).relu(),
            "two_sided": lambda: torch.cat([norm(learnt).relu(), (-norm(learnt)).relu()], 1),
            "sum": lambda: coded + norm(learnt).relu(),
            "sum_outer": lambda: (norm(learnt) + coded).relu(),
            "sum_inner": lambda: norm(learnt + coded).relu(),
        }
        torch.testing.assert_close(found(x, None if variant == "two_sided" else code), formulas[variant]())

    @pytest.mark.parametrize(
        ("variant", "share", "shapes"),
        [
            ("concat", 0.5, [(4, 8)]),
            ("concat", 0.25, [(2, 8)]),
            ("sum", 0.5, [(4, 8), (8, 4)]),
            ("sum_outer", 0.75, [(6, 8), (8, 6)]),
            ("sum_inner", 1.0, [(8, 8)]),
        ],
    )
    def test_the_learner_has_the_width_of_its_option(self, variant, share, shapes):
        found = pnnh_layer(8, PARTS, 1.0, PnnhOptions(variant=variant, learner_width=share))
        assert [tuple(m.weight.shape) for m in found.modules() if isinstance(m, nn.Linear)] == shapes
        assert found(gaussian(4, 8), torch.eye(8)[: found.split.coded]).shape == (4, 8)

    @pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8), (5, 8, 3, 2)])
    def test_concat_puts_channels_side_by_side_wherever_they_are(self, shape):
        axis = 1 if len(shape) == 4 else -1
        found = PnnhLayer("concat", concat().split(8), Half(axis))
        x, code = gaussian(*shape), torch.eye(8)[4:]
        assert torch.equal(found(x, code), torch.cat([x.narrow(axis, 4, 4), 2 * x.narrow(axis, 0, 4)], axis))


class Half(nn.Module):
    """A learner that doubles the first half of the channels."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x):
        return 2 * x.narrow(self.axis, 0, 4)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"variant": "product"}, "Input should be 'concat', 'window', 'strict', 'two_sided', 'sum', 'sum_outer'"),
            ({"start": "he"}, "start: he conflicts with constraint: orthogonal"),
            ({"variant": "concat", "learner_width": 1.0}, "leaves no channels to the coder of concat"),
            ({"learner_width": 0.0}, "greater than 0"),
            ({"trained": False, "decay": True}, "trained: false conflicts with decay"),
            ({"learning_rate_factor": 0.0}, "greater than 0"),
            ({"sharing": "all"}, "'stage', 'pair' or 'none'"),
            ({"start": "shift"}, "start: shift is not possible in concat; valid: identity, orthogonal, he"),
            ({"variant": "window", "start": "identity"}, "not possible in window; valid: shift, permutation"),
            ({"variant": "strict", "constraint": "orthogonal"}, "constraint: orthogonal is not possible in strict"),
            ({"variant": "two_sided", "learner_width": 0.25}, "learner_width: 0.5 is the only one of two_sided"),
            ({"variant": "sum", "learner": "two"}, "learner: two is not possible in sum; valid: one"),
            ({"variant": "sum", "preactivation": True}, "preactivation: only concat and window have it"),
            ({"input_share": 0.25}, "input_share: only window has one"),
            ({"variant": "window", "input_share": 0.9}, "leaves no channels to the coder of window"),
            ({"parameters": 0.0}, "greater than 0"),
        ],
    )
    def test_options_without_sense_are_named(self, options, told):
        with pytest.raises(ValueError, match=re.escape(told)):
            concat(**options)

    def test_a_width_that_cannot_be_halved_is_refused(self):
        with pytest.raises(UserError, match=r"a width of 7 cannot be split at learner_width 0\.5, which asks for 3\.5"):
            made(7)

    def test_a_coder_is_not_shared_across_unequal_shapes(self):
        options = concat()
        layers = [pnnh_layer(width, PARTS, 1.0, options) for width in (8, 16, 8)]
        with pytest.raises(UserError, match="layers that share a coder need one width; these have 8, 16"):
            PnnhStack(layers, options)


class Rotation(nn.Module):
    """x -> M x, along the features."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x):
        return x @ self.matrix.T


@pytest.mark.parametrize("training", [True, False], ids=["batch statistics", "running statistics"])
def test_sum_with_an_orthogonal_coder_is_a_residual_network_in_rotated_coordinates(training):
    """x_(l+1) = C x_l + f_l(x_l), so z_l = C^-l x_l obeys z_(l+1) = z_l + C^-(l+1) f_l(C^l z_l).

    The right side is built from this project's own residual layers: the rotation C^l folded into the learner's
    first weights, W C^l, and C^-(l+1) behind its rectifier. C is orthogonal, so its inverse is its transpose.
    """
    width, depth = 8, 6
    generator = torch.Generator().manual_seed(0)
    stack = made(width, depth, 0.7, variant="sum").double().train(training)
    with torch.no_grad():
        stack.coders[0][0].skew.copy_(torch.randn(width, width, generator=generator))
        for layer in stack.layers:
            layer.norm.running_mean.copy_(torch.randn(width, generator=generator))
            layer.norm.running_var.copy_(0.5 + torch.rand(width, generator=generator))
        code = stack.coders[0][0]()
        assert (code - torch.eye(width)).abs().max() > 0.3  # far from the identity
        residual, power = [], torch.eye(width, dtype=torch.float64)  # C^l
        for layer in stack.layers:
            assert isinstance(layer, PnnhLayer)
            assert layer.variant == "sum"
            narrow = nn.Linear(width, width // 2, bias=False).double()
            narrow.weight.copy_(layer.learner.narrow.weight @ power)
            power = code @ power
            branch = nn.Sequential(narrow, layer.learner.widen, layer.norm, nn.ReLU(), Rotation(power.T))
            residual.append(GatedBranch(branch))
        x = torch.randn(16, width, generator=generator, dtype=torch.float64)
        rotated = nn.Sequential(*residual).train(training)(x)
        torch.testing.assert_close(rotated, stack(x) @ power, rtol=1e-10, atol=1e-10)  # rows: (C^-L x)^T = x^T C^L
