"""PNNH blocks without a sum: window, strict and two_sided, and the widths of their stages."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from rdp.methods.options import PnnhOptions
from rdp.models import create_model
from rdp.models.coder import Coder, apply_coder, as_matrix
from rdp.models.initialisation import initialise
from rdp.models.paths import Learner, Parts, PnnhStack, pnnh_stack
from rdp.models.pnnh_width import stack_weights, width_of_share
from rdp.training import cost
from tests.helpers.tiny import gaussian


def conv(k: int):
    return lambda a, b: nn.Conv2d(a, b, k, padding=k // 2, bias=False)


def stack(width: int, depth: int, k: int = 3, gain: float = 1.0, **options: object) -> PnnhStack:
    parts = Parts(linear=conv(k), pointwise=conv(1), norm=nn.BatchNorm2d)
    network = pnnh_stack(width, depth, parts, gain, PnnhOptions(**options))
    initialise(network, 0)
    return network


def kernels(network: nn.Module) -> int:
    """The number of weights, without norms and biases."""
    return sum(p.numel() for p in network.parameters() if p.dim() > 1)


def layer_outputs(network: PnnhStack, x: torch.Tensor) -> list[torch.Tensor]:
    """The output of every layer."""
    outputs: list[torch.Tensor] = []
    for layer in network.layers:
        layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    network(x)
    return outputs


WINDOW = {"variant": "window", "preactivation": False, "parameters": None, "learner_width": 0.25}


class TestWindow:
    @pytest.mark.parametrize("learner", ["one", "two", "bottleneck"])
    def test_the_next_layers_read_what_a_layer_writes_without_change(self, learner):
        """With m = 4 a feature is written by layer l and read by layers l + 1 to l + 4, one step nearer to the end."""
        depth = 7 if learner == "one" else 14
        states = layer_outputs(stack(16, depth, learner=learner, **WINDOW), gaussian(5, 16, 6, 6))
        assert len(states) == 7
        for index, written in enumerate(states):
            for age, later in enumerate(states[index : index + 4]):
                first = 12 - 4 * age
                assert torch.equal(later[:, first : first + 4], written[:, 12:])
            for later in states[index + 4 :]:
                assert not any(torch.equal(later[:, c : c + 4], written[:, 12:]) for c in (0, 4, 8, 12))

    def test_a_share_of_the_width_holds_the_stages_input_for_ever(self):
        x = gaussian(5, 16, 6, 6)
        states = layer_outputs(stack(16, 6, input_share=0.25, learner="one", **WINDOW), x)
        for index, output in enumerate(states):
            assert torch.equal(output[:, :4], x[:, :4])
            for age, later in enumerate(states[index : index + 3]):  # the rest is a window of three layers
                first = 12 - 4 * age
                assert torch.equal(later[:, first : first + 4], output[:, 12:])

    def test_a_permutation_keeps_features_for_different_times(self):
        """The channels are shuffled by one permutation, drawn from the seed, and the last of them are dropped."""
        network = stack(16, 9, start="permutation", learner="one", **WINDOW)
        (coder,) = network.coders[0]
        matrix = coder()
        assert torch.equal(matrix @ matrix.T, torch.eye(12))
        assert set(matrix.unique().tolist()) == {0, 1}
        states = layer_outputs(network, gaussian(5, 16, 6, 6))
        for before, after in pairwise(states):
            assert torch.equal(after[:, :12], before[:, matrix.argmax(1)])
        again = stack(16, 9, start="permutation", learner="one", **WINDOW)
        assert torch.equal(again.coders[0][0](), matrix)
        other = stack(16, 9, start="permutation", learner="one", **WINDOW)
        initialise(other, 1)
        assert not torch.equal(other.coders[0][0](), matrix)

    @pytest.mark.parametrize("start", ["shift", "permutation"])
    @pytest.mark.parametrize("input_share", [0.0, 0.25])
    def test_a_trained_coder_starts_as_the_fixed_one_and_stays_orthogonal(self, start, input_share):
        options = WINDOW | {"start": start, "input_share": input_share}
        fixed, trained = stack(16, 4, **options), stack(16, 4, trained=True, **options)
        x = gaussian(5, 16, 6, 6)
        torch.testing.assert_close(trained(x), fixed(x))
        assert [kernels(trained) - kernels(fixed)] == [16 * 16]
        (coder,) = trained.coders[0]
        with torch.no_grad():
            coder.skew += gaussian(16, 16)
        torch.testing.assert_close(coder() @ coder().T, torch.eye(12), rtol=0, atol=1e-5)
        assert not torch.equal(coder().round(), fixed.coders[0][0]())

    @pytest.mark.parametrize("shape", [(3, 16), (3, 5, 16), (3, 16, 5, 4)])
    @pytest.mark.parametrize("start", ["shift", "permutation"])
    @pytest.mark.parametrize("input_share", [0.0, 0.25])
    def test_a_fixed_coder_copies_what_its_matrix_multiplies(self, start, input_share, shape):
        coder = Coder(16, 12, 3, PnnhOptions(**WINDOW | {"start": start, "input_share": input_share}))
        initialise(coder, 0)
        x = gaussian(*shape)
        code = coder.code()
        assert not isinstance(code, torch.Tensor) or not code.is_floating_point()
        assert torch.equal(as_matrix(code, 16), coder())
        assert torch.equal(apply_coder(code, x), apply_coder(coder(), x))
        assert not list(coder.parameters())

    def test_a_learner_of_two_layers_has_a_norm_and_a_rectifier_between_them(self):
        (layer,) = stack(16, 2, learner="two", **WINDOW).layers
        learner = layer.learner
        assert isinstance(learner, Learner)
        x = gaussian(5, 16, 6, 6)
        z = nn.functional.conv2d(x, learner.layer0.weight, padding=1)
        z = nn.functional.batch_norm(z, None, None, training=True).relu()
        torch.testing.assert_close(learner(x), nn.functional.conv2d(z, learner.layer1.weight, padding=1))

    @pytest.mark.parametrize("learner", ["one", "two", "bottleneck"])
    def test_with_preactivation_every_layer_normalises_what_it_reads(self, learner):
        network = stack(16, 1 if learner == "one" else 2, gain=0.6, learner=learner, **WINDOW | {"preactivation": True})
        x = gaussian(5, 16, 6, 6)

        def activated(z, gain=1.0):
            return (gain * nn.functional.batch_norm(z, None, None, training=True)).relu()

        (layer,) = network.layers
        weights = [module.weight for module in layer.learner if isinstance(module, nn.Conv2d)]
        z = activated(x, 0.6 if learner == "one" else 1.0)
        if learner != "one":
            hidden = nn.functional.conv2d(z, weights[0], padding=0 if learner == "bottleneck" else 1)
            z = activated(hidden, 0.6)
        written = nn.functional.conv2d(z, weights[-1], padding=1)
        torch.testing.assert_close(layer(x, network.codes()[0]), torch.cat([x[:, 4:], written], 1))
        torch.testing.assert_close(network(x), activated(torch.cat([x[:, 4:], written], 1)))

    def test_the_layer_left_over_by_learners_of_two_comes_first(self):
        layers = stack(16, 7, learner="two", **WINDOW).layers
        assert [isinstance(layer.learner, Learner) for layer in layers] == [False, True, True, True]


class TestStrict:
    def test_it_is_a_plain_network_with_shared_rows(self):
        """[C ; L] is one k x k layer, so a layer is phi(norm(W x)) with half of W the same in all layers."""
        network, x = stack(8, 3, variant="strict", gain=0.7).double(), gaussian(5, 8, 6, 6).double()
        (coder,) = network.coders[0]
        with torch.no_grad():
            coder.weight += 0.3 * gaussian(4, 8, 3, 3).double()
        expected = x
        for layer in network.layers:
            plain = nn.Sequential(conv(3)(8, 8), nn.BatchNorm2d(8), nn.ReLU()).double()
            with torch.no_grad():
                plain[0].weight.copy_(torch.cat([coder.weight, layer.learner.weight]))
                plain[1].weight.fill_(0.7)
            expected = plain(expected)
        torch.testing.assert_close(network(x), expected)
        assert coder.uses == 3

    @pytest.mark.parametrize("k", [1, 3, 5])
    def test_its_coder_starts_as_a_dirac_kernel_that_copies(self, k):
        (coder,) = stack(8, 3, k, variant="strict").coders[0]
        x = gaussian(5, 8, 6, 6)
        assert coder.weight.shape == (4, 8, k, k)
        assert torch.equal(apply_coder(coder(), x), x[:, :4])


class TestTwoSided:
    def test_its_halves_hold_the_positive_and_the_negative_part(self):
        network = stack(8, 1, variant="two_sided")
        x = gaussian(5, 8, 6, 6)
        y = network(x)
        z = nn.functional.batch_norm(network.layers[0].learner(x), None, None, training=True)
        torch.testing.assert_close(y[:, :4] - y[:, 4:], z)
        assert torch.equal(y[:, :4] * y[:, 4:], torch.zeros(5, 4, 6, 6))
        assert not list(network.coders[0])

    def test_it_starts_as_a_linear_map_that_preserves_lengths(self):
        """Without norms, z becomes W z in each layer, with W orthogonal, and keeps its length at every position."""
        network = stack(8, 6, variant="two_sided")
        for layer in network.layers:
            layer.norm = nn.Identity()
        z = gaussian(5, 4, 6, 6)
        y = network(torch.cat([z.relu(), (-z).relu()], 1))
        torch.testing.assert_close((y[:, :4] - y[:, 4:]).norm(dim=1), z.norm(dim=1))

    def test_he_starts_are_not_mirrored(self):
        weight = stack(8, 2, variant="two_sided", start="he").layers[1].learner.weight
        assert not torch.equal(weight[:, :4], -weight[:, 4:])
        assert weight.var().item() == pytest.approx(2 / 72, rel=0.3)


OPTIONS = [
    {"variant": "concat"},
    {"variant": "concat", "learner": "two"},
    {"variant": "concat", "learner": "bottleneck", "sharing": "none"},
    {"variant": "concat", "constraint": "none", "sharing": "pair", "learner_width": 0.25},
    {"variant": "window", "parameters": None},
    {"variant": "window", "learner": "one", "start": "permutation", "trained": True},
    {"variant": "window", "learner": "bottleneck", "input_share": 0.25},
    {"variant": "window", "learner": "bottleneck", "preactivation": True},
    {"variant": "strict"},
    {"variant": "strict", "trained": False},
    {"variant": "two_sided"},
    {"variant": "sum"},
    {"variant": "sum", "learner_width": 1.0, "trained": False},
]


class TestWidths:
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("depth", [3, 4])
    @pytest.mark.parametrize("k", [1, 3])
    def test_the_closed_form_counts_the_weights_of_a_stack(self, options, depth, k):
        assert stack_weights(16, depth, k * k, PnnhOptions(**options)) == kernels(stack(16, depth, k, **options))

    @pytest.mark.parametrize("m", [2, 4, 8, 16])
    def test_one_layer_learners_grow_by_the_square_root_of_half_the_window(self, m):
        """A layer has k^2 W^2 / m weights, which are half of k^2 d^2 for W = d sqrt(m / 2)."""
        options = PnnhOptions(variant="window", learner="one", learner_width=1 / m)
        width = width_of_share(64, 9 * 64**2, lambda w: stack_weights(w, 1, 9, options), options)
        assert width == pytest.approx(64 * math.sqrt(m / 2), rel=0.04)

    def test_two_layer_learners_grow_by_their_own_formula(self):
        """A pair has 9 (2 / m + 2 / m^2) W^2 weights, which are half of 18 d^2 for W = d m / sqrt(2 m + 2)."""
        options = PnnhOptions(variant="window", learner="two")
        width = width_of_share(64, 18 * 64**2, lambda w: stack_weights(w, 2, 9, options), options)
        assert width == pytest.approx(64 * 8 / math.sqrt(18), rel=0.04)

    def test_learners_with_a_bottleneck_grow_by_theirs(self):
        """A pair has (4 / m + 36 / m^2) W^2 weights, which are half of 18 d^2 for W = 3 d m / sqrt(4 m + 36)."""
        options = PnnhOptions(variant="window")
        width = width_of_share(64, 18 * 64**2, lambda w: stack_weights(w, 2, 9, options), options)
        assert width == pytest.approx(3 * 64 * 8 / math.sqrt(68), rel=0.04)

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("share", [0.5, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.25, 1.0))])
    @pytest.mark.parametrize("name", ["resnet44", "mlp32", "vit_micro12"])
    def test_a_network_gets_its_share_of_the_residual_networks_parameters(self, name, share, options):
        shape = (2,) if name == "mlp32" else (3, 16, 16)
        if name == "vit_micro12" and options["variant"] not in {"concat", "window", "sum"}:
            return
        residual = cost.count_parameters(create_model(name, input_shape=shape))
        network = create_model(name, path="pnnh", input_shape=shape, **options | {"parameters": share})
        # Norms, positions, stem and head are not part of a stage, and a small width changes in large steps.
        tolerance = 0.35 if share < 0.5 or name == "mlp32" else 0.08
        assert cost.count_parameters(network) / residual == pytest.approx(share, rel=tolerance)

    def test_without_a_share_the_widths_stay(self):
        options = PnnhOptions(variant="concat")
        assert width_of_share(24, 9 * 24**2, lambda w: 0, options) == 24

    def test_two_sided_layers_have_an_even_width(self):
        options = PnnhOptions(variant="two_sided", parameters=0.6)
        widths = {
            width_of_share(w, 9 * w * w, lambda g: stack_weights(g, 1, 9, options), options) for w in range(4, 64)
        }
        assert not any(width % 2 for width in widths)
