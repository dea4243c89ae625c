"""Which residual branches are found in other people's models, by declaration and by the sum."""

import copy
import importlib.util
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from timm.layers import DropPath
from torch import nn
from torch.nn import functional as F

import rdp
from rdp.errors import UserError
from rdp.methods import Iteration
from rdp.models import branch_ends
from rdp.models.units import Units


@pytest.fixture(autouse=True)
def _registrations(monkeypatch):
    monkeypatch.setattr(branch_ends, "_registered", dict(branch_ends._registered))


def drop(units: Units, *dropped: int) -> None:
    units.apply(Iteration("drop", active=np.array([i not in dropped for i in range(len(units))])))


class TwoLinear(nn.Module):
    """The layers of the blocks below."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(width, width), nn.Linear(width, width), nn.LayerNorm(width)

    def branch(self, x):
        return self.second(torch.tanh(self.first(x)))


class Sum(TwoLinear):
    def forward(self, x):
        return x + self.branch(x)


class SumBefore(TwoLinear):
    def forward(self, x):
        return self.norm(self.branch(x) * 0.5 + x)


class SumInPlace(TwoLinear):
    def forward(self, x):
        shortcut = x
        x = self.branch(x)
        x += shortcut
        return F.relu(x, inplace=True)


class OptionalMemory(TwoLinear):
    def forward(self, x, memory=None, scale=1.0):
        y = self.branch(x)
        if memory is not None:
            y = y + memory
        return x + y * scale


class GivenShortcut(TwoLinear):
    def forward(self, x, shortcut=None):
        if shortcut is None:
            shortcut = x
        return self.branch(x) + shortcut


class Keywords(TwoLinear):
    def forward(self, x, **kwargs):
        return x + self.branch(x)


class Output(nn.Module):
    """Joins a branch of the block that calls it, as in transformers."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, hidden, shortcut):
        return self.dense(hidden) + shortcut


class JoinedByChild(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first, self.output = nn.Linear(width, width), Output(width)

    def forward(self, x):
        return self.output(self.first(x), x)


class Whole(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.fn = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))

    def forward(self, x):
        return x + self.fn(x)


BY_HAND = {
    Sum: lambda block, x: x,
    SumBefore: lambda block, x: block.norm(x),
    SumInPlace: lambda block, x: F.relu(x),
    OptionalMemory: lambda block, x: x,
    Keywords: lambda block, x: x,
    JoinedByChild: lambda block, x: x,
    Whole: lambda block, x: x,
}


@pytest.mark.parametrize("kind", BY_HAND)
class TestSums:
    def test_a_dropped_branch_leaves_the_shortcut(self, kind):
        network, x = nn.Sequential(kind(), kind()), torch.randn(3, 4)
        before, original = x.clone(), copy.deepcopy(network)
        units = Units(network)
        assert units.names == ["0", "1"]
        drop(units, 0)
        assert torch.equal(network(x), original[1](BY_HAND[kind](original[0], x.clone())))
        drop(units, 0, 1)
        expected = BY_HAND[kind](original[1], BY_HAND[kind](original[0], x.clone()))
        assert torch.equal(network(x), expected)
        assert torch.equal(x, before)

    def test_a_unit_owns_what_only_its_branch_uses(self, kind):
        block = kind()
        owned = {id(p) for p in Units(nn.Sequential(block)).groups[0].parameters}
        names = {name for name, p in block.named_parameters() if id(p) in owned}
        assert names == {name for name, _ in block.named_parameters() if not name.startswith("norm")}


class TestArguments:
    def test_other_arguments_than_the_defaults_are_computed(self):
        block, x, memory = OptionalMemory(), torch.randn(3, 4), torch.randn(3, 4)
        expected = [block(x), block(x, memory), block(x, scale=3.0), block(x, memory=memory, scale=0.5)]
        units = Units(nn.Sequential(block))
        drop(units, 0)
        for args, kwargs in (((x,), {}), ((x, memory), {}), ((x,), {"scale": 3.0}), ((x, memory, 0.5), {})):
            assert torch.equal(block(*args, **kwargs), x)
        units.apply(Iteration("drop", scale=np.float32([1.0]), active=np.array([True])))
        for gate in units.gates[0]:
            gate.scale = 1.0  # computed by the traced forward pass
        found = [block(x), block(x, memory), block(x, scale=3.0), block(x, memory=memory, scale=0.5)]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)

    def test_a_branch_may_be_added_to_another_value(self):
        block, x, shortcut = GivenShortcut(), torch.randn(3, 4), torch.randn(3, 4)
        drop(Units(nn.Sequential(block)), 0)
        assert torch.equal(block(x), x)
        assert torch.equal(block(x, shortcut), shortcut)

    def test_arguments_that_change_the_branches_are_refused(self):
        class Turned(TwoLinear):
            def forward(self, x, joined=True):
                return x + self.branch(x) if joined else self.branch(x)

        block = Turned()
        units = Units(nn.Sequential(block))
        drop(units, 0)
        with pytest.raises(UserError, match=r"^Turned: .* it has other branches when it is called with x, joined"):
            block(torch.zeros(2, 4), joined=False)

    def test_objects_are_handed_on(self):
        class Cached(TwoLinear):
            def forward(self, x, cache=None, positions=None):
                y = self.branch(x)
                if cache is not None:
                    y = cache.update(y)
                if positions is not None:
                    y = y * positions[0]
                return x + y

        class Cache:
            def update(self, y):
                return y + 1

        block, x, positions = Cached(), torch.randn(2, 4), (torch.randn(2, 4), None)
        expected = block(x, cache=Cache(), positions=positions)
        units = Units(nn.Sequential(block))
        units.gates[0][0].scale = 1.0
        torch.testing.assert_close(block(x, cache=Cache(), positions=positions), expected)


class TestRegistered:
    def test_a_registered_end_may_be_the_whole_branch(self):
        rdp.register_block(Whole, "fn")
        network, x = nn.Sequential(Whole(), Whole()), torch.randn(2, 4)
        units = Units(network)
        drop(units, 0, 1)
        assert units.names == ["0", "1"]
        assert torch.equal(network(x), x)

    def test_blocks_of_the_class_without_a_shortcut_are_skipped_and_listed(self):
        class MaybeResidual(TwoLinear):
            def __init__(self, residual):
                super().__init__()
                self.residual = residual

            def forward(self, x):
                y = self.branch(x)
                return x + y if self.residual else y

        rdp.register_block(MaybeResidual, "second")
        network = nn.Sequential(MaybeResidual(True), MaybeResidual(False), MaybeResidual(True))
        units = Units(network)
        assert units.names == ["0", "2"]
        assert units.skipped == {"1": "the output of 'second' is not added to a shortcut, or has other uses"}


class TestRefusals:
    def test_a_branch_that_changes_its_input_in_place(self):
        class Overwrites(TwoLinear):
            def forward(self, x):
                return x + self.first(F.relu(x, inplace=True))

        network = nn.Sequential(Overwrites())
        rdp.register_block(Overwrites, "first")
        with pytest.raises(UserError, match=r"^Overwrites: .* its branch changes its input in place"):
            Units(network)

    def test_a_branch_whose_layers_have_other_uses(self):
        with pytest.raises(
            UserError, match=r"^parallel_blocks\.0\.drop_path\.1: what its layers compute is used outside"
        ):
            rdp.ResidualDropPath(timm.create_model("coat_tiny", drop_path_rate=0), rate=0.5)

    def test_a_droppath_module_whose_probability_cannot_be_read(self):
        class Skipping(nn.Module):
            def forward(self, x):
                return x

        block = TwoLinear()
        block.drop_path = Skipping()
        with pytest.raises(UserError, match=r"^0\.drop_path: the probability of this .* Skipping, cannot be read"):
            Units(nn.Sequential(block))

    def test_a_forward_that_is_an_attribute(self):
        block = Sum()
        block.forward = lambda x: x
        units = Units(nn.Sequential(block))
        assert "its forward is an attribute of the object" in units.skipped["0"]


class TestNested:
    def test_a_sum_inside_a_branch_is_a_part_of_it(self):
        class Outer(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner, self.last, self.drop_path = nn.Linear(4, 4), nn.Linear(4, 4), DropPath(0.0)

            def forward(self, x):
                y = x * 2
                y = y + self.drop_path(self.inner(y))
                return x + self.drop_path(self.last(y))

        network, x = nn.Sequential(Outer()), torch.randn(2, 4)
        units = Units(network)
        assert len(units) == 1
        assert len(units.groups[0].parameters) == 4
        drop(units, 0)
        assert torch.equal(network(x), x)

    def test_a_block_that_holds_several_blocks_is_no_unit(self):
        class Around(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(Sum(), Sum())

            def forward(self, x):
                return x + self.body(x)

        units = Units(nn.Sequential(Around()))
        assert units.names == ["0.body.0", "0.body.1"]
        assert "holds blocks" in units.skipped["0"]

    def test_a_single_block_in_a_branch_is_a_part_of_it(self):
        class Around(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(Sum(), nn.Linear(4, 4))

            def forward(self, x):
                return x + self.body(x)

        units = Units(nn.Sequential(Around()))
        assert units.names == ["0"]


def test_a_layer_that_is_used_outside_its_branch_too_belongs_to_the_rest():
    class Twice(TwoLinear):
        def forward(self, x):
            x = self.norm(x)
            return x + self.branch(self.norm(x))

    block = Twice()
    units = Units(nn.Sequential(block))
    assert {id(p) for p in block.norm.parameters()} <= {id(p) for p in units.groups[-1].parameters}


@pytest.mark.parametrize(
    "build",
    [
        torchvision.models.resnet18,
        torchvision.models.resnext50_32x4d,
        partial(timm.create_model, "res2net50_26w_4s"),
        partial(timm.create_model, "res2next50"),
    ],
)
def test_relus_in_place_that_branch_and_join_share(build):
    model = build(num_classes=3)
    schedule = rdp.ResidualDropPath(model, rate=0.9, schedule="uniform")
    for step in range(2):
        with schedule.iteration(step):
            model(torch.randn(2, 3, 32, 32)).sum().backward()
        model.zero_grad(set_to_none=True)
    schedule.close()


class TestRealModels:
    def test_inverted_residuals_without_a_shortcut_are_listed(self):
        found = rdp.find_units(torchvision.models.mobilenet_v2(), torch.zeros(1, 3, 32, 32))
        assert len(found.units) == 10
        assert len(found.without_shortcut) == 7
        assert not found.left_out

    def test_torchs_own_transformer_layers(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        network, x = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval(), torch.randn(2, 3, 8)
        expected = network(x)
        units = Units(network)
        assert units.names == [f"layers.{i}.{end}" for i in range(2) for end in ("self_attn", "linear2")]
        for gates in units.gates:
            gates[0].scale = 1.0
        torch.testing.assert_close(network(x), expected)

    @pytest.mark.parametrize("post_norm", ["Bert", "ViT"])
    def test_layers_of_transformers(self, post_norm):
        options = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        if post_norm == "Bert":
            model = transformers.BertModel(transformers.BertConfig(vocab_size=20, **options))
            inputs = {"input_ids": torch.arange(6).view(2, 3), "attention_mask": torch.ones(2, 3)}
        else:
            model = transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=8, **options))
            inputs = {"pixel_values": torch.randn(2, 3, 16, 16)}
        model = model.eval()
        expected = model(**inputs).last_hidden_state
        assert len(rdp.find_units(model, inputs).units) == 4
        assert rdp.find_units(model, inputs).left_out == ()
        units = Units(model)
        for gates in units.gates:
            gates[0].scale = 1.0
        torch.testing.assert_close(model(**inputs).last_hidden_state, expected)

    def test_droppath_of_a_class_that_is_not_known_is_taken_over(self):
        config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[2, 2], num_stages=2, drop_path_rate=0.3)
        model = transformers.ConvNextModel(config)
        with pytest.raises(UserError, match=r"the model's own droppath is active, with probability 0\.1"):
            Units(model)
        units = Units(model, take_over=True)
        assert len(units) == 4
        x = torch.randn(8, 3, 32, 32)
        assert torch.equal(model(x).pooler_output, model(x).pooler_output)
        units.restore()
        assert not torch.equal(model(x).pooler_output, model(x).pooler_output)

    def test_branches_that_nothing_declares_beside_others_are_named_in_a_warning(self):
        model = timm.create_model("fastvit_t8")
        with pytest.warns(UserWarning, match=r"are no units, .*: 10 RepMixer \(stages\.0\.blocks\.0\.token_mixer, …\)"):
            rdp.ResidualDropPath(model, rate=0.5).close()
        found = rdp.find_units(model, torch.zeros(1, 3, 64, 64))
        assert [left.name for left in found.left_out] == [f"{unit}.token_mixer" for unit in found.units]
        assert "rdp.register_block(RepMixer, 'layer_scale') makes it a unit" in str(found)

    def test_models_whose_branches_are_all_declared_give_no_warning(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rdp.ResidualDropPath(timm.create_model("test_vit"), rate=0.5).close()


class Windows(TwoLinear):
    """Pads its input if its size asks for it, as blocks with windows do."""

    def forward(self, x, size):
        height, width = size
        assert x.shape[1] == height * width, "wrong size"
        y = x.view(x.shape[0], height, width, -1)
        if height % 2 or width % 2:
            y = F.pad(y, (0, 0, 0, width % 2, 0, height % 2))
        y = self.branch(y)[:, :height, :width].reshape(x.shape)
        return x + y


class Sized(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Windows(), Windows()])

    def forward(self, x):
        for block in self.blocks:
            x = block(x, (3, 4))
        return x


def test_what_a_forward_writes_into_its_block_is_not_kept():
    class Caches(TwoLinear):
        def __init__(self):
            super().__init__()
            self.cache, self.seen = {}, []

        def forward(self, x):
            self.cache["bias"] = self.first.bias * 2
            self.seen.append(x)
            return x + self.branch(x) + self.cache["bias"]

    block = Caches()
    Units(nn.Sequential(block))
    assert block.cache == {}
    assert block.seen == []


class TestAlongAnExample:
    def test_a_forward_that_depends_on_sizes_is_refused_without_one(self):
        network = Sized()
        with pytest.raises(UserError, match="no residual branch"):
            rdp.ResidualDropPath(network, rate=0.5)
        assert "pass an input of the model as example" in Units(network).skipped["blocks.0"]

    @pytest.mark.parametrize("examples", [1, 5])
    def test_it_is_traced_along_the_example_for_any_number_of_examples(self, examples):
        network, x = Sized(), torch.randn(examples, 12, 4)
        expected = network(x)
        only_second = network.blocks[1](x, (3, 4))
        units = Units(network, example=torch.randn(2, 12, 4))
        for gates in units.gates:
            gates[0].scale = 1.0
        torch.testing.assert_close(network(x), expected)
        drop(units, 0)
        torch.testing.assert_close(network(x), only_second)

    def test_other_sizes_than_those_of_the_example_are_refused(self):
        block = Windows()
        network = nn.Sequential(Sized())
        network[0].blocks[0] = block
        drop(Units(network, example=torch.randn(2, 12, 4)), 0)
        with pytest.raises(UserError, match=r"^Windows: .* depends on sizes, and those of the example were \[\(12, 4"):
            block(torch.randn(2, 16, 4), (4, 4))

    def test_a_forward_that_depends_on_the_number_of_examples_is_refused(self):
        class Counts(TwoLinear):
            def forward(self, x):
                return x + self.branch(x) * int(x.shape[0])

        units = Units(nn.Sequential(Counts(), Sum()), example=torch.randn(2, 4))
        assert units.names == ["1"]
        assert "depends on the number of examples" in units.skipped["0"]

    def test_a_forward_that_depends_on_values_is_refused(self):
        class Chooses(TwoLinear):
            def forward(self, x):
                return x + self.branch(x) if x.sum() > 0 else x

        units = Units(nn.Sequential(Chooses()), example=torch.ones(2, 4))
        assert len(units) == 0

    def test_the_model_stays_as_it_was(self):
        network = nn.Sequential(Sized(), nn.BatchNorm1d(12)).train()
        network[0].eval()
        before = copy.deepcopy(network.state_dict())
        state = torch.get_rng_state()
        Units(network, example=torch.randn(2, 12, 4, generator=torch.Generator())).restore()
        assert torch.equal(torch.get_rng_state(), state)
        assert [module.training for module in network] == [False, True]
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_windowed_layers_of_transformers(self):
        options = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4]}
        model = transformers.Swinv2Model(transformers.Swinv2Config(window_size=4, drop_path_rate=0.0, **options)).eval()
        x = torch.randn(3, 3, 32, 32)
        expected = model(x).last_hidden_state
        units = Units(model, example=x[:2])
        assert len(units) == 6
        for gates in units.gates:
            gates[0].scale = 1.0
        torch.testing.assert_close(model(x).last_hidden_state, expected)


def test_blocks_of_an_extension_are_searched(tmp_path, monkeypatch):
    """Its module is named as one of this package, and nothing declares where its branches end."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n\n\n"
        "class Mine(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(8, 8)\n\n"
        "    def forward(self, x):\n"
        "        return x + self.linear(x)\n"
    )
    spec = importlib.util.spec_from_file_location("rdp.models.families.mine", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    network = nn.Sequential(module.Mine(), module.Mine())
    assert rdp.ResidualDropPath(network, rate=0.5).units == ["0", "1"]
