"""Folding for evaluation: the same outputs, fewer layers, and the original left alone."""

import copy
from itertools import pairwise

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, StdConv2d
from timm.models import resnet
from timm.models.resnet import BasicBlock
from torch import nn
from torch.nn.utils import parametrizations, prune

from rdp.errors import UserError
from rdp.models import create_model
from rdp.models.coder import Coder
from rdp.models.convert import set_path
from rdp.models.fusion import FusedConcat, FusedLayer, fuse
from rdp.models.paths import PnnhLayer, PnnhStack
from tests.helpers.tiny import gaussian

PATHS = [("residual", {}), ("plain", {}), *(("pnnh", {"variant": v}) for v in ("concat", "sum"))]
MORE = [("pnnh", {"variant": v}) for v in ("sum_outer", "sum_inner")]
MORE += [
    ("pnnh", {"variant": "sum_inner", "learner_width": 1.0}),
    ("pnnh", {"variant": "concat", "constraint": "none", "start": "he"}),
]
MORE += [("pnnh", {"variant": v}) for v in ("strict", "two_sided")]
AFTER = {"variant": "window", "preactivation": False}  # norms that fusing removes
MORE += [("pnnh", AFTER)]
MORE += [("pnnh", AFTER | {"learner": "one", "input_share": 0.25})]
MORE += [("pnnh", AFTER | {"learner": "bottleneck", "start": "permutation"})]
MORE += [("pnnh", AFTER | {"trained": True, "learner": "one"})]
CASES = [(name, *path) for name in ("mlp8", "resnet20", "BasicBlock", "Bottleneck") for path in PATHS + MORE]
CASES += [("vit_micro", *path) for path in [*PATHS, ("pnnh", {"variant": "window"})]]
# A basic block is made of the layers of resnet20, so its many forms are not among the fast tests.
LONG = [case[0] == "BasicBlock" and case[1:] in MORE for case in CASES]
every = pytest.mark.parametrize(
    ("name", "path", "options"),
    [pytest.param(*case, marks=pytest.mark.slow if long else ()) for case, long in zip(CASES, LONG, strict=True)],
    ids=[f"{n} {p} {o}" for n, p, o in CASES],
)


def trained(name: str, path: str, options: dict, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, torch.Tensor]:
    """A network whose coders have moved and whose norms have seen examples, and other examples."""
    shape = (2,) if name.startswith("mlp") else (1, 8, 8)
    if name in {"BasicBlock", "Bottleneck"}:
        small = resnet.ResNet(getattr(resnet, name), (2, 1, 1, 2), num_classes=5, in_chans=1, channels=(8, 8, 16, 16))
        network = set_path(small, path, norm_gain=0.7, **options)
    else:
        network = create_model(name, path=path, norm_gain=0.7, input_shape=shape, classes=5, **options)
    with torch.no_grad():
        for number, module in enumerate(network.modules()):
            if isinstance(module, Coder):
                for parameter in module.parameters():
                    parameter += 0.1 * gaussian(*parameter.shape, seed=number)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.bias += 0.3 * gaussian(*module.bias.shape, seed=number)
        network.train().to(dtype)
        for seed in range(3):
            network(gaussian(16, *shape, seed=seed).to(dtype))
    return network, gaussian(8, *shape, seed=9).to(dtype)


def count(network: nn.Module, kind: type | tuple[type, ...]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


@every
@pytest.mark.parametrize("growth", [1.0, 2.0])
def test_outputs_are_equal(name, path, options, growth):
    network, x = trained(name, path, options)
    expected, fused = network.eval()(x), fuse(network, growth=growth)
    torch.testing.assert_close(fused(x), expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
    assert count(fused, (nn.BatchNorm1d, nn.BatchNorm2d)) == 0
    assert count(fused, Coder) == 0


@every
def test_outputs_are_equal_within_1e_5_in_single_precision(name, path, options):
    network, x = trained(name, path, options, torch.float32)
    expected = network.eval()(x)
    assert (fuse(network)(x) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "options", "growth", "joined"),
    [
        ("mlp8", {"variant": "concat"}, 1.0, 8),  # side by side, k = 1: the same operations
        ("mlp8", {"variant": "sum_inner", "learner_width": 1.0}, 1.0, 8),
        ("mlp8", {"variant": "sum"}, 9.0, 0),  # a non-linearity lies between
        ("resnet20", {"variant": "concat"}, 1.0, 0),  # C in the middle of a 3 x 3 kernel: 1.8 times the operations
        ("resnet20", {"variant": "concat"}, 2.0, 16),
        ("resnet20", {"variant": "sum_inner"}, 1.0, 0),
        ("resnet20", {"variant": "sum_inner"}, 2.0, 16),
        ("resnet20", {"variant": "sum_outer", "learner_width": 1.0}, 1.0, 16),
        ("resnet20", {"variant": "strict"}, 1.0, 16),  # one layer already
        (
            "resnet20",
            {"variant": "window", "learner": "one"},
            2.0,
            0,
        ),  # copying costs nothing
        ("resnet20", AFTER | {"learner": "one"}, 9.0, 16),
        ("resnet20", {"variant": "two_sided"}, 9.0, 0),
    ],
)
def test_products_are_joined_where_that_costs_no_more_than_was_allowed(name, options, growth, joined):
    network, _ = trained(name, "pnnh", options)
    fused = fuse(network, growth=growth)
    assert count(fused, PnnhLayer) == count(fused, FusedLayer) == count(network, PnnhLayer) - joined
    assert count(fused, FusedConcat) == (joined if options["variant"] in {"concat", "window"} else 0)


def test_the_original_is_unchanged():
    network, x = trained("resnet20", "pnnh", {})
    state, mode, kinds = copy.deepcopy(network.state_dict()), network.training, [type(m) for m in network.modules()]
    expected = network(x)
    network.load_state_dict(state)
    fuse(network)
    assert network.training == mode
    assert [type(m) for m in network.modules()] == kinds
    assert all(torch.equal(network.state_dict()[key], state[key]) for key in state)
    assert all(p.requires_grad for p in network.parameters())
    assert torch.equal(network(x), expected)


def test_a_preactivated_learner_keeps_the_norms_in_front_of_it():
    """Several layers read the state, each through a norm of its own; norms inside learners are fused."""
    network, x = trained("resnet20", "pnnh", {"variant": "window", "preactivation": True, "learner": "bottleneck"})
    expected, fused = network.eval()(x), fuse(network)
    torch.testing.assert_close(fused(x), expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
    layers = count(network, PnnhLayer)
    assert count(fused, nn.BatchNorm2d) == layers + 3  # and at the end of each stage


def test_a_timm_model_that_nobody_converted_is_folded_too():
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=3).double()
    with torch.no_grad():
        model.train()(gaussian(4, 3, 32, 32).double())
    x = gaussian(2, 3, 32, 32, seed=1).double()
    fused = fuse(model)
    torch.testing.assert_close(fused(x), model.eval()(x))
    assert count(fused, nn.BatchNorm2d) == 0


def test_what_cannot_be_folded_is_kept():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)).eval()
    x = gaussian(3, 4)
    fused = fuse(model)
    assert torch.equal(fused(x), model(x))
    assert [type(m) for m in fused] == [type(m) for m in model]


def test_a_layer_by_itself_is_folded_too():
    """The outermost module may be the sequence or the stack itself."""
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).eval()
    assert isinstance(fuse(model)[1], nn.Identity)


class PreActivation(nn.Module):
    """The usual names, in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return x + self.conv1(self.bn1(x).relu())


def filled(norm: nn.Module) -> nn.Module:
    """A norm with statistics and an affine map that matter."""
    with torch.no_grad():
        for number, tensor in enumerate((norm.running_mean, norm.weight, norm.bias)):
            tensor.copy_(gaussian(4, seed=number))
        norm.running_var.copy_(gaussian(4, seed=3).square() + 0.1)
    return norm


class Rectified(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).relu()


class Doubled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


def replaced(layer: nn.Module) -> nn.Module:
    """A layer with a forward of its own, which tools like accelerate set on the instance."""
    layer.forward = lambda x, forward=layer.forward: forward(x).relu()
    return layer


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, output: output.relu())
    return layer


def hooked_before(layer: nn.Module) -> nn.Module:
    layer.register_forward_pre_hook(lambda module, inputs: (inputs[0].relu(),))
    return layer


def pruned(layer: nn.Module) -> nn.Module:
    """As pruning leaves it behind after a forward pass: a hook computes the weights."""
    prune.l1_unstructured(layer, "weight", 0.5)
    with torch.no_grad():
        layer(gaussian(1, 4, 5, 5))
    return layer


CHANGED = {
    "subclass": (lambda: Rectified(4, 4, 3), lambda: nn.BatchNorm2d(4)),
    "standardised weights": (lambda: StdConv2d(4, 4, 3), lambda: nn.BatchNorm2d(4)),
    "subclass of a norm": (lambda: nn.Conv2d(4, 4, 3), lambda: Doubled(4)),
    "norm with an activation": (lambda: nn.Conv2d(4, 4, 3), lambda: BatchNormAct2d(4)),
    "hook": (lambda: hooked(nn.Conv2d(4, 4, 3)), lambda: nn.BatchNorm2d(4)),
    "hook before": (lambda: hooked_before(nn.Conv2d(4, 4, 3)), lambda: nn.BatchNorm2d(4)),
    "hook of the norm": (lambda: nn.Conv2d(4, 4, 3), lambda: hooked(nn.BatchNorm2d(4))),
    "hook before the norm": (lambda: nn.Conv2d(4, 4, 3), lambda: hooked_before(nn.BatchNorm2d(4))),
    "forward of the instance": (lambda: replaced(nn.Conv2d(4, 4, 3)), lambda: nn.BatchNorm2d(4)),
    "parametrization": (lambda: parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)), lambda: nn.BatchNorm2d(4)),
    "another parametrization": (lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), lambda: nn.BatchNorm2d(4)),
    "pruning": (lambda: pruned(nn.Conv2d(4, 4, 3)), lambda: nn.BatchNorm2d(4)),
}


@pytest.mark.parametrize("change", CHANGED)
@pytest.mark.parametrize("place", ["sequence", "resnet"])
def test_a_layer_that_is_not_what_its_class_says_is_left_alone(change, place):
    """What no rule folds, whatever its class inherits: outputs are those of the model itself."""
    torch.manual_seed(0)
    convolution, norm = (make() for make in CHANGED[change])
    if place == "sequence":
        model = nn.Sequential(convolution, filled(norm), nn.Conv2d(4, 4, 1), filled(nn.BatchNorm2d(4)))
    else:
        convolution.padding = (1, 1)
        model = BasicBlock(4, 4)
        model.conv1, model.bn1 = convolution, filled(norm)
        filled(model.bn2)
    x = gaussian(3, 4, 7, 7)
    fused = fuse(model)
    torch.testing.assert_close(fused(x), model.eval()(x))
    kept = [type(m) for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    assert kept == [type(norm)]  # and the next pair is fused as ever


@pytest.mark.parametrize("variant", ["concat", "sum_inner", "strict", "window"])
@pytest.mark.parametrize("change", ["hook", "norm", "layer", "learner", "parametrization", "subclass"])
def test_a_pnnh_layer_that_somebody_changed_is_left_alone(variant, change):
    options = AFTER if variant == "window" else {"variant": variant}
    network, x = trained("resnet20", "pnnh", options)
    layer = network[1].layers[1]
    convolution = [m for m in layer.learner.modules() if isinstance(m, nn.Conv2d)][-1]
    if change == "parametrization":
        parametrizations.weight_norm(convolution)
        with torch.no_grad():
            convolution.parametrizations.weight.original0.mul_(2)
    elif change == "subclass":
        convolution.__class__ = Rectified
    else:
        hooked({"hook": convolution, "norm": layer.norm, "layer": layer, "learner": layer.learner}[change])
    expected, fused = network.eval()(x), fuse(network, growth=2.0)
    torch.testing.assert_close(fused(x), expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
    assert isinstance(fused[1][2], FusedLayer)


def test_a_stack_with_a_hook_is_left_alone():
    network, x = trained("resnet20", "pnnh", {"variant": "concat"})
    hooked(network[1])
    expected, fused = network.eval()(x), fuse(network)
    torch.testing.assert_close(fused(x), expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
    assert isinstance(fused[1], PnnhStack)
    assert count(fused[2], (nn.BatchNorm2d, Coder)) == 0


@pytest.mark.parametrize(
    "kinds", ["conv act other act norm", "conv norm conv norm", "conv norm norm", "norm conv norm"]
)
def test_a_module_in_several_places_of_a_sequence_counts_in_each(kinds):
    torch.manual_seed(0)
    parts = {"conv": nn.Conv2d(4, 4, 1), "other": nn.Conv2d(4, 4, 1), "act": nn.ReLU()}
    parts["norm"] = filled(nn.BatchNorm2d(4))
    model = nn.Sequential(*(parts[kind] for kind in kinds.split()))
    x = gaussian(3, 4, 5, 5)
    fused = fuse(model)
    torch.testing.assert_close(fused(x), model.eval()(x))
    assert [isinstance(m, nn.Identity) for m in fused._modules.values()] == [
        kind == "norm" and before == "conv" for before, kind in pairwise(["", *kinds.split()])
    ]


def test_a_resnet_with_a_forward_of_its_own_is_left_alone():
    class Rectifies(resnet.ResNet):
        def forward_features(self, x):
            return self.layer1(self.maxpool(self.bn1(self.conv1(x).relu())))

    torch.manual_seed(0)
    model = Rectifies(BasicBlock, (1, 1, 1, 1), num_classes=3).double()
    model.fc = nn.Linear(64, 3).double()
    with torch.no_grad():
        model.train()(gaussian(4, 3, 32, 32).double())
    x = gaussian(2, 3, 32, 32, seed=1).double()
    fused, checked = fuse(model), fuse(model, example=x)
    for copied in (fused, checked):
        torch.testing.assert_close(copied(x), model.eval()(x))
        assert isinstance(copied.bn1, nn.BatchNorm2d)
    assert isinstance(fused.layer1[0].bn1, nn.BatchNorm2d)
    assert isinstance(checked.layer1[0].bn1, nn.Identity)
    assert isinstance(checked.layer2[0].bn1, nn.BatchNorm2d)  # which its forward pass leaves out


def test_a_model_that_cannot_be_copied_is_refused_by_name():
    model = nn.Sequential(prune.random_unstructured(nn.Conv2d(4, 4, 1), "weight", 0.5), nn.BatchNorm2d(4))
    with pytest.raises(UserError, match="Sequential: it cannot be copied"):
        fuse(model)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (PreActivation(), (3, 4, 5, 5)),
        (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (3, 4, 5)),  # normalises dimension 1, not the layer's own
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), (3, 4, 5, 5)),
    ],
    ids=["pre-activation", "tokens", "no running statistics"],
)
def test_a_norm_that_may_not_follow_its_layer_is_not_fused(model, shape):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.copy_(gaussian(4))
            module.running_var.copy_(gaussian(4, seed=1).square() + 0.1)
    x = gaussian(*shape)
    torch.testing.assert_close(fuse(model)(x), model.eval()(x))
