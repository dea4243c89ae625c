"""Gates in other people's blocks: which are found, whose parameters are whose, and what is left behind."""

import copy

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

import rdp
from rdp.errors import UserError
from rdp.methods import Iteration
from rdp.models import branch_ends
from rdp.models.units import Units
from tests.helpers.tiny import TIMM, TINY, Gain, UserBlock, gradients, same

every_model = pytest.mark.parametrize("name", TINY)
pytestmark = pytest.mark.usefixtures("user_block")


def photograph(network: nn.Module) -> dict:
    """All of a network that gates could change, but for its numbers."""
    modules = {}
    for name, module in network.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | None)}
        hooks = [len(v) for k, v in vars(module).items() if k.endswith("hooks")]
        modules[name] = (type(module), list(vars(module)), list(module._modules), plain, hooks)
    return {"modules": modules, "trained": {name: p.requires_grad for name, p in network.named_parameters()}}


def tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def owners(network: nn.Module, units: Units) -> dict[str, str | None]:
    """The unit of each parameter, None for the rest's."""
    by_id = {id(p): name for name, g in zip([*units.names, None], units.groups, strict=True) for p in g.parameters}
    return {name: by_id[id(p)] for name, p in network.named_parameters()}


@every_model
class TestWhatIsFound:
    def test_units_are_the_residual_branches_in_order(self, name):
        assert tuple(Units(TINY[name].build()).names) == TINY[name].units

    def test_a_unit_owns_the_parameters_that_only_its_branch_uses(self, name):
        tiny, network = TINY[name], TINY[name].build()
        expected = {key: tiny.owner(key) for key, _ in network.named_parameters()}
        assert set(expected.values()) == {*tiny.units, None}
        assert owners(network, Units(network)) == expected

    def test_each_parameter_is_in_one_group(self, name):
        network = TINY[name].build()
        listed = [id(p) for group in Units(network).groups for p in group.parameters]
        assert sorted(listed) == sorted(id(p) for p in network.parameters())

    def test_a_block_as_the_unit_owns_what_its_branches_own(self, name):
        network = TINY[name].build()
        expected = {key: unit and unit.split(".drop_path")[0] for key, unit in owners(network, Units(network)).items()}
        units = Units(network, "block")
        assert owners(network, units) == expected
        assert sum(map(len, units.gates)) == len(TINY[name].units)


@every_model
class TestOpenGates:
    @pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
    @pytest.mark.parametrize("factor", [None, 1.0], ids=["open", "by the gated forward"])
    def test_a_gated_model_computes_what_the_model_did_bit_for_bit(self, name, training, factor):
        network, batch = TINY[name].build().train(training), TINY[name].batch()
        original = copy.deepcopy(network)
        units = Units(network)
        for gate in [gate for gates in units.gates for gate in gates]:
            gate.scale = factor
            assert gate.is_open == (factor is None)
        (logits, found), (expected, gradient) = gradients(network, *batch), gradients(original, *batch)
        assert torch.equal(logits, expected)
        assert same(found, gradient)
        assert same(tensors(network), tensors(original))  # the running statistics too

    def test_names_of_the_state_dict_stay_and_so_does_the_name_of_each_class(self, name):
        network = TINY[name].build()
        before, kinds = tensors(network), [type(m) for m in network.modules()]
        Units(network)
        assert same(tensors(network), before)
        assert all(isinstance(m, kind) for m, kind in zip(network.modules(), kinds, strict=True))
        network.load_state_dict(before)


@every_model
class TestRestore:
    def test_it_leaves_the_model_as_it_was_found(self, name):
        network = TINY[name].build()
        before, numbers = photograph(network), tensors(network)
        units = Units(network)
        assert photograph(network) != before
        units.apply(Iteration("drop", active=torch.arange(len(units)).numpy() % 2 == 0, rest_trained=False))
        units.restore()
        assert photograph(network) == before
        assert same(tensors(network), numbers)

    def test_gates_can_be_put_in_again(self, name):
        network = TINY[name].build()
        Units(network).restore()
        assert tuple(Units(network).names) == TINY[name].units


@every_model
def test_a_copy_of_a_gated_model_is_a_plain_working_model(name):
    network, batch = TINY[name].build(), TINY[name].batch()
    original = copy.deepcopy(network)
    units = Units(network)
    units.apply(Iteration("drop", active=torch.zeros(len(units)).bool().numpy()))
    copied = copy.deepcopy(network)
    (logits, found), (expected, gradient) = gradients(copied, *batch), gradients(original, *batch)
    assert torch.equal(logits, expected)
    assert same(found, gradient)
    assert not torch.equal(gradients(network, *batch)[0], expected)  # the copied one is dropped still
    assert not {id(p) for p in copied.parameters()} & {id(p) for g in units.groups for p in g.parameters}


class Joined(nn.Module):
    """A block that concatenates, as DenseNets do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop_path = nn.Linear(4, 4), DropPath(0.0)

    def forward(self, x):
        return torch.cat([x, self.drop_path(self.linear(x))], dim=1)


class Chooses(Joined):
    """A block whose forward depends on numbers."""

    def forward(self, x):
        return x + self.drop_path(self.linear(x)) if x.sum() > 0 else x


class TwoNorms(nn.Module):
    """A block of two branches behind one droppath module, as in timm's MLP-Mixer."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.one, self.other, self.drop_path = nn.Linear(width, width), nn.Linear(width, width), DropPath(0.0)

    def forward(self, x):
        x = x + self.drop_path(self.one(x))
        return x + self.drop_path(self.other(x))


class TestRefusals:
    def test_a_model_without_residual_branches_is_refused_with_its_blocks_and_a_hint(self):
        with torch.device("meta"):
            network = timm.create_model("vgg11")
        with pytest.raises(UserError) as error:
            Units(network).require()
        for told in ("VGG: no residual branch", "ConvMlp (1)", "ClassifierHead (1)", "rdp.register_block(ItsClass, '"):
            assert told in str(error.value)

    def test_a_model_without_blocks_is_refused(self):
        with pytest.raises(UserError, match=r"^Sequential: no residual branch .* its blocks: none\."):
            Units(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).require()

    def test_the_blocks_of_a_model_without_sums_are_counted(self):
        network = nn.Sequential(*(nn.Sequential(Gain(2)) for _ in range(3)), nn.MultiheadAttention(4, 2))
        with pytest.raises(UserError, match=r"its blocks: Sequential \(3\), MultiheadAttention \(1\)\."):
            Units(network).require()

    @pytest.mark.parametrize(
        ("block", "reason"),
        [
            (Joined, r"^Joined: .* output of 'drop_path' is not added to a shortcut.*rdp\.register_block\(Joined, "),
            (Chooses, r"^Chooses: .* its forward cannot be traced \(TraceError: .* control flow"),
        ],
    )
    def test_a_block_that_cannot_be_gated_is_named_with_the_reason(self, block, reason):
        with pytest.raises(UserError, match=reason) as error:
            Units(nn.Sequential(block()))
        assert "\n" not in str(error.value)

    def test_a_model_with_one_such_block_is_left_without_gates(self):
        network = nn.Sequential(UserBlock(4), UserBlock(4), Joined())
        before = photograph(network)
        with pytest.raises(UserError, match="Joined"):
            Units(network)
        assert photograph(network) == before

    def test_a_registered_end_that_the_block_does_not_have_is_named(self):
        rdp.register_block(UserBlock, "lost")
        with pytest.raises(UserError, match=r"UserBlock: .*'lost'"):
            Units(nn.Sequential(UserBlock(4)))

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("UserBlock", "last"), "expected a subclass of nn.Module, got 'UserBlock'"),
            ((int, "last"), "expected a subclass of nn.Module"),
            ((UserBlock,), r"register_block\(UserBlock\): name the children that end its branches"),
            ((UserBlock, 3), r"register_block\(UserBlock\): name the children that end its branches"),
        ],
    )
    def test_a_wrong_registration_is_refused(self, arguments, reason):
        with pytest.raises(UserError, match=reason):
            rdp.register_block(*arguments)

    def test_a_block_that_nobody_registered_is_found_by_its_sum(self, monkeypatch):
        expected = Units(TINY["user"].build()).names
        monkeypatch.setattr(branch_ends, "_registered", {})
        assert Units(TINY["user"].build()).names == expected

    def test_blocks_of_a_registered_blocks_subclasses_are_found(self):
        class Special(UserBlock):
            pass

        assert len(Units(nn.Sequential(Special(4)))) == 1


@pytest.mark.parametrize("name", TIMM)
class TestDroppathOfTheModelsOwn:
    def drops(self, network: nn.Module) -> dict[str, float]:
        return {key: m.drop_prob for key, m in network.named_modules() if isinstance(m, DropPath)}

    def test_a_model_with_active_droppath_is_refused_and_unchanged(self, name):
        network = TINY[name].build(drop_path_rate=0.5)
        before = photograph(network)
        first, probability = next(iter(self.drops(network).items()))
        with pytest.raises(UserError, match=rf"^{first}: .* with probability {probability:.3g}; .*take_over=True"):
            Units(network)
        assert photograph(network) == before

    def test_taken_over_it_is_silent_until_it_is_restored(self, name):
        network, batch = TINY[name].build(drop_path_rate=0.5), TINY[name].batch()
        plain = TINY[name].build()
        plain.load_state_dict(network.state_dict())
        before, drops = photograph(network), self.drops(network)
        units = Units(network, take_over=True)
        for _ in range(2):  # in training mode, where droppath would draw
            assert torch.equal(gradients(network, *batch)[0], gradients(plain, *batch)[0])
        copied = copy.deepcopy(network)
        assert self.drops(copied) == drops
        assert not torch.equal(gradients(copied, *batch)[0], gradients(plain, *batch)[0])  # it drops
        units.restore()
        assert self.drops(network) == drops
        assert max(drops.values()) > 0.3
        assert photograph(network) == before


class TestParameters:
    def test_what_two_units_share_goes_with_the_rest(self):
        network = nn.Sequential(UserBlock(4), UserBlock(4))
        network[1].linear = network[0].linear
        expected = dict.fromkeys([f"0.{k}" for k in ("norm.weight", "norm.bias", "last.gain")], "0")
        expected |= {key.replace("0", "1", 1): "1" for key in expected} | {"0.linear.weight": None}
        assert owners(network, Units(network)) == expected | {"0.linear.bias": None}

    def test_what_a_unit_shares_with_the_rest_goes_with_the_rest(self):
        network = nn.Sequential(UserBlock(4), nn.Linear(4, 4))
        network[1].weight = network[0].linear.weight
        assert owners(network, Units(network))["0.linear.weight"] is None

    def test_what_a_unit_shares_with_itself_is_its_own(self):
        network = nn.Sequential(UserBlock(4))
        network[0].last.gain = network[0].norm.bias
        assert owners(network, Units(network))["0.norm.bias"] == "0"

    def test_what_the_user_froze_stays_frozen(self):
        network = TINY["vit"].build()
        for parameter in network.blocks[1].parameters():
            parameter.requires_grad_(False)
        before = photograph(network)["trained"]
        units = Units(network)
        for trained in (torch.arange(6).numpy() % 2 == 0, torch.arange(6).numpy() % 2 == 1):
            units.apply(Iteration("recover", trained=trained, rest_trained=False))
            assert not any(p.requires_grad for p in network.blocks[1].parameters())
            units.release()
            assert photograph(network)["trained"] == before


class TestSharedModules:
    def test_branches_behind_one_droppath_module_are_units_of_their_own(self):
        units = Units(nn.Sequential(TwoNorms(), UserBlock(4), TwoNorms()))
        assert units.names == ["0.drop_path.1", "0.drop_path.2", "1", "2.drop_path.1", "2.drop_path.2"]
        assert [len(gates) for gates in units.gates] == [1] * 5

    @pytest.mark.parametrize("rate", [0.0, 0.3])
    def test_a_droppath_module_of_several_branches_is_silenced_and_restored_once(self, rate):
        network, x = nn.Sequential(TwoNorms()), torch.randn(64, 4)
        expected = network(x)
        network[0].drop_path.drop_prob = rate
        units = Units(network, take_over=True)
        assert torch.equal(network(x), expected)
        units.restore()
        assert network[0].drop_path.drop_prob == rate
        assert torch.equal(network(x), expected) == (rate == 0)


class TestWhatFollowsADroppedBranch:
    def test_an_activation_in_place_does_not_overwrite_the_shortcut(self):
        network, x = nn.Sequential(UserBlock(4)), torch.randn(3, 4)
        before = x.clone()
        units = Units(network)
        units.apply(Iteration("drop", active=torch.zeros(1).bool().numpy()))
        assert torch.equal(network(x), torch.relu(before))
        assert torch.equal(x, before)
        assert network[0].relu.inplace

    def test_nor_does_one_that_follows_the_block(self):
        network, x = nn.Sequential(TwoNorms(), nn.ReLU(inplace=True)), torch.randn(3, 4)
        before = x.clone()
        network(x)
        assert torch.equal(x, before)
        units = Units(network)
        units.apply(Iteration("drop", active=torch.zeros(len(units)).bool().numpy()))
        assert torch.equal(network(x), torch.relu(before))
        assert torch.equal(x, before)
