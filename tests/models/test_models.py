"""Networks: their sizes by hand formula, their paths, their coders and their initial weights."""

import json
import re

import pytest
import torch
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions
from rdp.models import architecture, architectures, create_model
from rdp.models.paths import Parts, pnnh_stack
from rdp.training import cost

PATHS = [("residual", {}), ("plain", {}), ("pnnh", {"variant": "concat"}), ("pnnh", {"variant": "sum"})]
path_ids = [" ".join([path, *options.values()]) for path, options in PATHS]
every_path = pytest.mark.parametrize(("path", "options"), PATHS, ids=path_ids)
WIDTHS = (16, 32, 64)


# The narrowed forms of an architecture differ from it in their widths alone.
SHAPES = [name for name in architectures() if "_same_" not in name]


def kernels(module: nn.Module) -> int:
    """Parameters of linear and convolutional layers."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d))


class TestParameters:
    @pytest.mark.parametrize("path", ["residual", "plain"])
    @pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet56", 9), ("resnet110", 18)])
    def test_resnets_have_the_layers_of_the_formula_with_or_without_shortcuts(self, name, blocks, path, make_network):
        channels, classes = 3, 10
        expected = 9 * channels * 16 + 2 * 16 + 64 * classes + classes
        for width_in, width in zip((16, 16, 32), WIDTHS, strict=True):
            # Two 3 x 3 layers a block, each with a gain and a bias a channel; the first reads the last stage.
            expected += 9 * width_in * width + (2 * blocks - 1) * 9 * width * width + 2 * blocks * 2 * width
        network = make_network(name, path, input_shape=(channels, 32, 32), classes=classes)
        assert cost.count_parameters(network) == expected

    @pytest.mark.parametrize(
        ("name", "count"), [("resnet20", 269_722), ("resnet56", 853_018), ("resnet110", 1_727_962)]
    )
    def test_resnets_for_cifar10_have_their_known_sizes(self, name, count, make_network):
        assert cost.count_parameters(make_network(name, input_shape=(3, 32, 32))) == count

    @pytest.mark.parametrize("path", ["residual", "plain"])
    def test_mlps_have_the_layers_of_the_formula(self, path, make_network):
        expected = (2 * 32 + 32) + 32 * (32 * 32 + 2 * 32) + (32 * 2 + 2)
        assert cost.count_parameters(make_network("mlp32", path, classes=2)) == expected

    @pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet56", 9), ("resnet110", 18)])
    @pytest.mark.parametrize("variant", ["concat", "sum"])
    def test_pnnh_resnets_have_the_layers_of_the_formula(self, name, blocks, variant, make_network):
        expected = 9 * 16 + 2 * 16 + 64 * 10 + 10
        for width_in, width in zip((16, 16, 32), WIDTHS, strict=True):
            depth = 2 * blocks
            if width_in != width:  # the layer that changes the width is a plain one
                expected += 9 * width_in * width + 2 * width
                depth -= 1
            half = width // 2
            layer = 9 * width * half + 2 * half if variant == "concat" else 9 * width * half + half * width + 2 * width
            expected += depth * layer + width * width
        assert cost.count_parameters(make_network(name, "pnnh", variant=variant)) == expected

    @pytest.mark.parametrize(("variant", "low", "high"), [("concat", 0.5, 0.52), ("sum", 0.55, 0.58)])
    def test_deep_pnnh_resnets_have_about_half_the_parameters(self, variant, low, high, make_network):
        plain = cost.count_parameters(make_network("resnet110", "plain"))
        assert low < cost.count_parameters(make_network("resnet110", "pnnh", variant=variant)) / plain < high

    @pytest.mark.parametrize("name", [n for n in architectures() if n.endswith("_same_parameters")])
    def test_narrowed_networks_match_the_size_of_the_pnnh_network(self, name, make_network):
        narrow, pnnh = make_network(name), make_network(name.removesuffix("_same_parameters"), "pnnh")
        # A transformer's width is a multiple of its heads.
        tolerance = 0.03 if name.startswith("vit") else 0.01
        assert cost.count_parameters(narrow) / cost.count_parameters(pnnh) == pytest.approx(1, abs=tolerance)
        x = torch.zeros(2, 1, 8, 8)
        flops = [cost.count_flops(lambda network=network: network.eval()(x)) for network in (narrow, pnnh)]
        assert flops[0] / flops[1] == pytest.approx(1, abs=0.08 if name.startswith("vit") else 0.04)

    @pytest.mark.parametrize("k", [1, 3, 5])
    def test_a_pnnh_layer_has_exactly_the_stated_share_of_a_plain_layers_weights(self, k):
        def conv(size):
            return lambda a, b: nn.Conv2d(a, b, size, padding=size // 2, bias=False)

        parts = Parts(linear=conv(k), pointwise=conv(1), norm=nn.BatchNorm2d)
        plain = k * k * 8 * 8
        concat, total = (kernels(pnnh_stack(8, 1, parts, 1.0, PnnhOptions(variant=v))) for v in ("concat", "sum"))
        assert 2 * concat == plain
        assert total * 2 * k * k == plain * (k * k + 1)

    @pytest.mark.parametrize(
        ("name", "depth", "width", "ratio", "patch"), [("vit_micro", 6, 48, 2, 2), ("vit_tiny", 12, 192, 4, 4)]
    )
    def test_vision_transformers_have_the_layers_of_the_formula(self, name, depth, width, ratio, patch, make_network):
        attention = 2 * width + 3 * (width * width + width) + width * width + width
        mlp = 2 * width + 2 * ratio * width * width + ratio * width + width
        patches = patch * patch * width + width + (8 // patch) ** 2 * width
        expected = patches + depth * (attention + mlp) + 2 * width + width * 10 + 10
        assert cost.count_parameters(make_network(name)) == expected

    def test_forward_flops_are_those_of_the_formula(self, make_network):
        # A multiply-add counts two: each weight of a 3 x 3 layer once for every pixel of its output.
        expected = 2 * (9 * 1 * 16 * 64 + 64 * 10)
        for width_in, width, pixels in zip((16, 16, 32), WIDTHS, (64, 16, 4), strict=True):
            expected += 2 * 9 * pixels * (width_in * width + 5 * width * width)
        network = make_network("resnet20")
        assert cost.IterationCost(network, (1, 8, 8)).forward_full == expected
        assert network.training


class TestBuild:
    @pytest.mark.parametrize(
        ("name", "path", "options"),
        [(name, path, o) for name in SHAPES for path, o in PATHS],
    )
    def test_every_architecture_builds_on_each_of_its_paths_and_gives_logits(
        self, name, path, options, make_network, make_batch
    ):
        logits = make_network(name, path, **options)(make_batch(name)[0])
        assert logits.shape == (12, 10)
        assert logits.isfinite().all()

    def test_an_unknown_architecture_is_named_with_the_near_miss(self):
        with pytest.raises(UserError, match="unknown architecture 'resnet_20'; did you mean 'resnet20'"):
            architecture("resnet_20")

    @pytest.mark.parametrize(
        ("name", "path", "kind", "shape", "reason"),
        [
            ("vit_micro", "residual", "vector", (2,), "vit_micro reads images, and the dataset holds vectors"),
            ("vit_tiny", "residual", "image", (3, 10, 8), "patches of 4 x 4 pixels, and the images have 10 x 8"),
            ("resnet20", "pnnh", "image", (3, 9, 7), None),
            ("mlp8", "plain", "image", (1, 8, 8), None),
        ],
    )
    def test_unsupported_inputs_and_paths_are_named(self, name, path, kind, shape, reason):
        told = architecture(name).mismatch(path, kind, shape)
        assert reason in told if reason else told is None

    @pytest.mark.parametrize(
        ("name", "options", "reason"),
        [
            ("vit_micro", {"variant": "sum_inner"}, "vit_micro has no sum_inner form; valid: concat, window, sum"),
            (
                "mlp8",
                {"variant": "concat", "learner_width": 0.3},
                "mlp8: a width of 32 cannot be split at learner_width 0.3",
            ),
            ("resnet20", {"variant": "concat", "learner_width": 0.03125}, "resnet20: a width of 16 cannot be split"),
            ("resnet20", {"variant": "concat", "learner_width": 0.0625}, None),
            ("vit_micro", {"variant": "sum"}, None),
        ],
    )
    def test_unsupported_options_are_named(self, name, options, reason):
        shape = (1, 8, 8) if name != "mlp8" else (2,)
        told = architecture(name).mismatch("pnnh", "image" if len(shape) == 3 else "vector", shape, options)
        assert told.startswith(reason) if reason else told is None
        if reason:
            with pytest.raises(UserError, match=re.escape(reason)):
                create_model(name, path="pnnh", input_shape=shape, classes=2, **options)

    @pytest.mark.parametrize(
        ("name", "depth"), [("mlp32", 32), ("resnet110", 110), ("vit_tiny", 12), ("vit_micro24", 24), ("resnet50", 50)]
    )
    def test_depth_is_that_of_the_name_or_the_blocks(self, name, depth):
        assert architecture(name).depth == depth

    def test_architectures_are_listed_without_importing_torch(self, run_python):
        done = run_python(
            "-c",
            "import json, sys; from rdp.models import architectures; "
            "print(json.dumps([sorted(architectures()), 'torch' in sys.modules]))",
        )
        assert done.returncode == 0, done.stderr
        names, imported = json.loads(done.stdout)
        assert {"mlp32", "resnet20", "resnet56", "resnet110"} <= set(names)
        assert not imported


@every_path
@pytest.mark.parametrize("name", ["mlp32", "resnet20"])
def test_the_norm_gain_is_set_on_the_last_norm_of_every_branch_or_learner(name, path, options, make_network):
    network = make_network(name, path, norm_gain=0.2, **options)
    low, one = [], []
    for key, module in network.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert (module.bias == 0).all()
            gain = module.weight.unique().item()
            assert gain == 1 or gain == pytest.approx(0.2)
            (one if gain == 1 else low).append(key)
    if name == "mlp32":
        assert (len(low), len(one)) == (32, 0)
    elif path == "pnnh":
        assert (len(low), one) == (18, ["0.norm"])  # every layer is a learner of its own, but for the stem
    else:
        assert low == [f"{stage}.{block}.branch.norm2" for stage in (1, 2, 3) for block in range(3)]


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of linear and convolutional layers, by name."""
    return {
        name: module.weight.detach()
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


class TestInitialWeights:
    @pytest.mark.parametrize("name", ["mlp32", "resnet20"])
    def test_the_same_seed_gives_the_same_weights(self, name, make_network):
        one, other = make_network(name).state_dict(), make_network(name).state_dict()
        assert all(torch.equal(one[key], other[key]) for key in one)

    @every_path
    def test_another_seed_gives_other_weights_in_every_layer(self, path, options, make_network):
        one, other = (weights(make_network("resnet20", path, seed=seed, **options)) for seed in (0, 1))
        assert not any(torch.equal(one[key], other[key]) for key in one)

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("mlp32"),
            "resnet20",
            "resnet56",
        ],
    )
    def test_a_plain_network_starts_with_all_the_weights_of_its_residual_form(self, name, make_network):
        residual, plain = make_network(name, seed=3).state_dict(), make_network(name, "plain", seed=3).state_dict()
        assert residual.keys() == plain.keys()
        assert all(torch.equal(residual[key], plain[key]) for key in residual)

    @every_path
    def test_wherever_name_and_shape_agree_so_do_the_weights(self, path, options, make_network):
        residual, other = weights(make_network("resnet20")), weights(make_network("resnet20", path, **options))
        same = [key for key in other if key in residual and other[key].shape == residual[key].shape]
        assert {"0.conv", "6"} <= set(same)  # stem and head at least
        assert all(torch.equal(other[key], residual[key]) for key in same)

    @every_path
    @pytest.mark.parametrize("name", ["mlp32", "resnet56"])
    def test_their_variance_is_hes(self, name, path, options, make_network):
        total, squares = 0, 0.0
        for key, weight in weights(make_network(name, path, **options)).items():
            # 2 / fan-in before a rectifier; 1 / fan-in for the head, an mlp's linear stem, and a narrowing map
            # that a widening one follows.
            linear = key.endswith("learner.narrow") or key in ({"1", "3"} if name == "mlp32" else {"6"})
            variance = (1 if linear else 2) / weight[0].numel()
            standard = weight.double() / variance**0.5
            # Mean and mean square of n standard normals deviate by 1 / sqrt(n) and sqrt(2 / n).
            n = weight.numel()
            assert abs(standard.mean()) < 4.5 / n**0.5, key
            assert abs((standard**2).mean() - 1) < 5 * (2 / n) ** 0.5, key
            total, squares = total + n, squares + (standard**2).sum().item()
        assert squares / total == pytest.approx(1, abs=4 * (2 / total) ** 0.5)

    def test_no_two_layers_start_alike(self, make_network):
        found = [w for w in weights(make_network("mlp32")).values() if w.shape == (32, 32)]
        flat = torch.stack([w.flatten() for w in found])
        correlation = torch.corrcoef(flat) - torch.eye(len(flat))
        assert correlation.abs().max() < 5 / flat.shape[1] ** 0.5

    def test_biases_start_at_0(self, make_network):
        for name in ("mlp32", "resnet20"):
            for module in make_network(name).modules():
                if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                    assert (module.bias == 0).all()
