"""Folds where other code reads inside a sequence: none that cannot be known, and none that changes outputs."""

import copy

import pytest
import torch
import torchvision
from torch import nn

import rdp
from rdp.errors import UserError
from rdp.models.paths import PnnhStack
from tests.helpers.tiny import gaussian


def sequence() -> nn.Sequential:
    """A convolution and a norm with statistics and an affine map that matter."""
    norm = nn.BatchNorm2d(4)
    with torch.no_grad():
        for number, tensor in enumerate((norm.running_mean, norm.weight, norm.bias)):
            tensor.copy_(gaussian(4, seed=number))
        norm.running_var.copy_(gaussian(4, seed=3).square() + 0.1)
    return nn.Sequential(nn.Conv2d(4, 4, 1), norm)


class Model(nn.Module):
    """A stem that its forward pass may read by parts, and a body that it calls as a whole."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body = sequence(), sequence()

    def forward(self, x):
        return self.body(self.start(x))

    def start(self, x):
        return self.stem(x)


class Skips(Model):
    def start(self, x):
        y = self.stem[0](x)
        return self.stem[1](y) + y


class Taps(Model):
    """As perceptual losses read VGG."""

    def forward(self, x):
        taps = []
        for layer in self.stem:
            x = layer(x)
            taps.append(x)
        return [*taps, self.body(x)]


class ReadsWeight(Model):
    def start(self, x):
        return self.stem(x) + self.stem[0].weight.sum()


class ReadsNorm(Model):
    def start(self, x):
        return self.stem(x) * self.stem[1].weight.sum()


class Nested(nn.Module):
    """Whose reading class is two levels above the sequence."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.Sequential(nn.Sequential(sequence(), nn.ReLU()), sequence())

    @property
    def stem(self):
        return self.parts[0][0]

    @property
    def body(self):
        return self.parts[1]

    def forward(self, x):
        return {"out": self.parts(x), "features": (self.parts[0][0][0](x),)}


class Flagged(Model):
    """Which reads a part if an argument says so."""

    def forward(self, x, deep=False):
        return self.body(x if not deep else self.stem[0](x))


READERS = [Skips, Taps, ReadsWeight, ReadsNorm, Nested]
X = gaussian(3, 4, 5, 5)


def check(fused: nn.Module, model: nn.Module, *args, **kwargs) -> None:
    torch.testing.assert_close(fused(*args, **kwargs), model.eval()(*args, **kwargs))


@pytest.mark.parametrize("reader", [Model, *READERS])
def test_without_an_example_nothing_is_folded_in_a_class_of_unknown_code(reader):
    model = reader()
    fused = rdp.fuse(model)
    check(fused, model, X)
    assert isinstance(fused.stem[1], nn.BatchNorm2d)
    assert isinstance(fused.body[1], nn.BatchNorm2d)


@pytest.mark.parametrize("reader", READERS)
def test_with_an_example_a_fold_that_changes_outputs_is_undone_and_no_other(reader):
    model = reader()
    fused = rdp.fuse(model, example=X)
    check(fused, model, X)
    check(fused, model, gaussian(2, 4, 6, 6, seed=9))
    assert [isinstance(part[1], nn.Identity) for part in (fused.stem, fused.body)] == [False, True]


@pytest.mark.parametrize("example", [X, (X,), {"x": X}], ids=["tensor", "tuple", "mapping"])
def test_with_an_example_sequences_that_are_called_as_wholes_are_folded(example):
    model = Model()
    fused = rdp.fuse(model, example=example)
    check(fused, model, X)
    assert isinstance(fused.stem[1], nn.Identity)
    assert isinstance(fused.body[1], nn.Identity)


def test_norms_of_torchvisions_mobilenet_are_folded_with_an_example():
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2(width_mult=0.1, num_classes=3).double()
    x = gaussian(2, 3, 32, 32).double()
    with torch.no_grad():
        model.train()(x)
    fused = rdp.fuse(model, example=x)
    check(fused, model, x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


@pytest.mark.parametrize("wrap", [lambda model: model, nn.Sequential, nn.DataParallel])
def test_sequences_of_sequences_and_wrappers_are_known(wrap):
    torch.manual_seed(0)
    model = wrap(nn.Sequential(sequence(), nn.Sequential(nn.ReLU(), sequence()), nn.Upsample(scale_factor=2)))
    fused = rdp.fuse(model)
    check(fused, model, X)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


def test_a_layer_that_a_class_of_unknown_code_shares_is_not_folded():
    torch.manual_seed(0)
    reader, shared = Skips(), sequence()
    reader.extra = shared[0]
    model = nn.Sequential(shared, reader, sequence())
    fused = rdp.fuse(model)
    check(fused, model, X)
    assert [isinstance(fused[place][1], nn.Identity) for place in (0, 2)] == [False, True]


def test_what_the_example_does_not_run_is_not_folded():
    model = Flagged()
    fused = rdp.fuse(model, example=X)
    check(fused, model, X)
    check(fused, model, X, deep=True)
    assert isinstance(fused.body[1], nn.Identity)
    deep = rdp.fuse(model, example={"x": X, "deep": True})
    check(deep, model, X, deep=True)


def test_the_model_and_the_example_stay_as_they_are():
    class Counts(Model):
        """Overwrites its input, and keeps a state that it returns."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return super().forward(x.mul_(2)) + self.calls

    model, x = Counts(), X.clone()
    fused = rdp.fuse(model, example=x)
    assert torch.equal(x, X)
    assert model.calls == fused.calls == 0
    assert isinstance(fused.stem[1], nn.Identity)
    assert model.training
    expected = copy.deepcopy(model).eval()(X.clone())
    torch.testing.assert_close(fused(X.clone()), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("reader", [Model, Skips])
def test_the_tolerance_tells_rounding_from_errors_in_every_precision(dtype, reader):
    fused = rdp.fuse(reader().to(dtype), example=X.to(dtype))
    assert isinstance(fused.stem[1], nn.Identity) == (reader is Model)
    assert isinstance(fused.body[1], nn.Identity)


def test_a_stack_of_pnnh_layers_that_is_read_by_parts_is_undone():
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = rdp.create_model("resnet20", path="pnnh", input_shape=(1, 8, 8), variant="concat")

        def forward(self, x):
            outputs = self.network(x)
            return outputs, self.network[1].layers[0].norm.weight.sum()

    model = Reads()
    fused = rdp.fuse(model, example=(x := gaussian(4, 1, 8, 8)))
    expected, found = model.eval()(x), fused(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert isinstance(fused.network[1], PnnhStack)
    assert sum(isinstance(module, PnnhStack) for module in fused.modules()) == 1


def test_lazy_layers_without_weights_are_refused_in_one_line():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.BatchNorm2d(4))
    with pytest.raises(UserError, match=r"Sequential: the lazy '0\.weight' has no shape yet; call the model on an"):
        rdp.fuse(model)
    model.eval()(X)
    check(rdp.fuse(model), model, X)


def test_an_output_without_a_tensor_is_refused_in_one_line():
    class Silent(Model):
        def forward(self, x):
            return super().forward(x).tolist()

    with pytest.raises(UserError, match="Silent: the output on the example has no tensor to compare"):
        rdp.fuse(Silent(), example=X)
