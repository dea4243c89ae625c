"""What an iteration does to a network: what is computed, what is trained, and what is left alone."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rdp.methods import FULL, Iteration, Training, method_class
from rdp.models import architecture, architectures
from rdp.models.gates import GatedBranch
from rdp.models.units import Units
from tests.helpers.tiny import gradients

NAMES = ["mlp32", "resnet20"]
DROPPED = {"mlp32": [0, 3, 4, 17, 31], "resnet20": [0, 3, 5, 8]}


class CutBlock(nn.Module):
    """A residual block whose branch is cut out, written without gates."""

    def __init__(self, block: GatedBranch, relu: bool) -> None:
        super().__init__()
        self.relu, self.stride, self.new = (
            relu,
            getattr(block.shortcut, "stride", 1),
            getattr(block.shortcut, "new_channels", 0),
        )

    def forward(self, x):
        if self.stride == 2:
            x = x[..., ::2, ::2]
        if self.new:
            x = torch.cat([x, x.new_zeros(len(x), self.new, *x.shape[2:])], dim=1)
        return torch.relu(x) if self.relu else x


class ScaledBranch(nn.Module):
    """A residual branch times a constant."""

    def __init__(self, branch: nn.Module, scale: float) -> None:
        super().__init__()
        self.branch, self.scale = branch, scale

    def forward(self, x):
        return self.branch(x) * self.scale


class TimmDropPath(nn.Module):
    """A residual branch behind timm's own drop_path, with a seed that decides its mask."""

    def __init__(self, branch: nn.Module, rate: float, seed: int) -> None:
        super().__init__()
        self.branch, self.rate, self.seed = branch, rate, seed

    def forward(self, x):
        from timm.layers import drop_path

        output = self.branch(x)
        torch.manual_seed(self.seed)
        return drop_path(output, self.rate, training=True)


def replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


def cut(network: nn.Module, dropped: list[int], scale: np.ndarray | None = None) -> nn.Module:
    """A copy of the network without those branches, the other ones scaled."""
    reference = copy.deepcopy(network)
    for i, name in enumerate(Units(network).names):
        block = reference.get_submodule(name)
        if i in dropped:
            replace(reference, name, CutBlock(block, relu=not isinstance(block, GatedBranch)))
        elif scale is not None:
            block.branch = ScaledBranch(block.branch, float(scale[i]))
    return reference


def mask(units: int, chosen: list[int]) -> np.ndarray:
    found = np.zeros(units, dtype=bool)
    found[chosen] = True
    return found


def parameters_of(units: Units, network: nn.Module, chosen: list[int]) -> set[str]:
    own = {id(p) for i in chosen for p in units.groups[i].parameters}
    return {name for name, p in network.named_parameters() if id(p) in own}


@pytest.mark.parametrize("name", NAMES)
class TestDropIteration:
    @pytest.mark.parametrize("scaled", [False, True], ids=["unscaled", "scaled"])
    def test_it_is_the_network_with_those_branches_cut_out_bit_for_bit(self, name, scaled, make_network, make_batch):
        network, (x, y) = make_network(name), make_batch(name)
        units = Units(network)
        # Powers of two, as at rates of 1/2 and 3/4: scaling by them rounds nothing, in whatever order.
        scale = np.resize(np.float32([2, 4, 1]), len(units)) if scaled else None
        reference = cut(network, DROPPED[name], scale)
        kept = ~mask(len(units), DROPPED[name])
        units.apply(Iteration("drop", active=kept, scale=scale, trained=kept))
        logits, found = gradients(network, x, y)
        expected_logits, expected = gradients(reference, x, y)
        assert torch.equal(logits, expected_logits)
        dropped = parameters_of(units, network, DROPPED[name])
        assert dropped
        for key, gradient in found.items():
            if key in dropped:
                assert gradient is None
            else:
                name_there = key if key in expected else key.replace(".branch.", ".branch.branch.")
                assert torch.equal(gradient, expected[name_there]), key

    def test_it_does_so_to_rounding_at_any_scale(self, name, make_network, make_batch):
        network, (x, _) = make_network(name).double(), make_batch(name)
        units = Units(network)
        scale = 1 / (1 - np.linspace(0, 0.3, len(units)))
        reference = cut(network, DROPPED[name], scale)
        units.apply(Iteration("drop", active=~mask(len(units), DROPPED[name]), scale=scale))
        torch.testing.assert_close(network(x.double()), reference(x.double()), rtol=1e-10, atol=1e-10)

    def test_running_statistics_of_dropped_branches_stay(self, name, make_network, make_batch):
        network, (x, _) = make_network(name), make_batch(name)
        units = Units(network)
        before = {key: buffer.clone() for key, buffer in network.named_buffers()}
        units.apply(Iteration("drop", active=~mask(len(units), DROPPED[name])))
        network(x)
        dropped = tuple(f"{units.names[i]}." for i in DROPPED[name])
        for key, buffer in network.named_buffers():
            assert torch.equal(buffer, before[key]) == key.startswith(dropped), key

    def test_dropping_everything_leaves_stem_shortcuts_and_head(self, name, make_network, make_batch):
        network, (x, y) = make_network(name), make_batch(name)
        units = Units(network)
        reference = cut(network, list(range(len(units))))
        units.apply(Iteration("drop", active=np.zeros(len(units), dtype=bool)))
        assert torch.equal(gradients(network, x, y)[0], gradients(reference, x, y)[0])


@pytest.mark.parametrize("name", ["mlp8", "resnet20"])
@pytest.mark.parametrize("rate", [0.5, 0.3])
def test_droppath_per_example_is_timms_given_the_same_mask(name, rate, make_network, make_batch):
    network, (x, y) = make_network(name), make_batch(name)
    units = Units(network)
    reference = copy.deepcopy(network)
    rates = np.linspace(0, rate, len(units)) if rate == 0.3 else np.full(len(units), rate)
    kept = np.ones((len(units), len(x)), dtype=bool)
    for i, unit in enumerate(units.names):
        if rates[i] == 0:  # timm draws nothing there
            continue
        block = reference.get_submodule(unit)
        block.branch = TimmDropPath(block.branch, float(rates[i]), seed=i)
        torch.manual_seed(i)
        kept[i] = x.new_empty(len(x)).bernoulli_(1 - float(rates[i])).bool().numpy()
    assert 0 < kept.mean() < 1
    scale = (1 / (1 - rates)).astype(np.float32)
    units.apply(Iteration("drop", active=kept, scale=scale))
    logits, found = gradients(network, x, y)
    expected_logits, expected = gradients(reference, x, y)
    # At a rate of 1/2 the scale is 2 and nothing is rounded; elsewhere 1 / keep is, by either side.
    exact = {"rtol": 0, "atol": 0} if rate == 0.5 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(logits, expected_logits, **exact)
    for gradient, other in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(gradient, other, **exact)


@pytest.mark.parametrize("name", NAMES)
class TestRecoverIteration:
    def test_its_gradients_are_the_full_networks_restricted_to_the_dropped_units(self, name, make_network, make_batch):
        network, (x, y) = make_network(name), make_batch(name)
        full_logits, full = gradients(copy.deepcopy(network), x, y)
        units = Units(network)
        units.apply(Iteration("recover", trained=mask(len(units), DROPPED[name]), rest_trained=False))
        logits, found = gradients(network, x, y)
        assert torch.equal(logits, full_logits)
        trained = parameters_of(units, network, DROPPED[name])
        for key, gradient in found.items():
            if key in trained:
                assert torch.equal(gradient, full[key]), key
            else:
                assert gradient is None, key

    def test_gradients_flow_through_frozen_units_to_earlier_ones_and_stop_at_the_earliest(
        self, name, make_network, make_batch
    ):
        network, (x, _) = make_network(name), make_batch(name)
        units = Units(network)
        needs_gradient = []
        for unit in units.names:
            network.get_submodule(unit).register_forward_hook(
                lambda module, inputs, output: needs_gradient.append(output.requires_grad)
            )
        units.apply(Iteration("recover", trained=mask(len(units), [3]), rest_trained=False))
        network(x)
        assert needs_gradient == [False] * 3 + [True] * (len(units) - 3)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_and_their_momentum_do_not_move_over_many_steps(name, make_network, make_batch):
    network, method = make_network(name), method_class("residual_droppath")(rate=0.5)
    units = Units(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    groups = [group.parameters for group in units.groups]
    for step in range(12):
        iteration = method.iteration(step, Training(len(units), batch_size=12, seed=0))
        units.apply(iteration)
        x, y = make_batch(name, seed=step)
        before = [[p.detach().clone() for p in group] for group in groups]
        momentum = [[copy.deepcopy(optimizer.state.get(p)) for p in group] for group in groups]
        F.cross_entropy(network(x), y).backward()
        trained = [*iteration.trained, iteration.rest_trained]
        assert [all(p.grad is not None for p in group) for group in groups] == trained
        assert [any(p.grad is not None for p in group) for group in groups] == trained
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for group, values, states, moves in zip(groups, before, momentum, trained, strict=True):
            for parameter, value, state in zip(group, values, states, strict=True):
                assert torch.equal(parameter, value) != moves
                if not moves:
                    now = optimizer.state.get(parameter)
                    assert (state or {}).keys() == (now or {}).keys()
                    assert all(torch.equal(now[key], state[key]) for key in state or {})


@pytest.mark.parametrize("name", NAMES)
def test_a_dropped_branch_runs_no_kernel(name, make_network, make_batch):
    network, (x, y) = make_network(name), make_batch(name)
    units = Units(network)
    calls = dict.fromkeys(units.names, 0)
    leaves = dict.fromkeys(units.names, 0)

    def count(unit):
        def hook(module, *_):
            calls[unit] += 1

        return hook

    for unit in units.names:
        for module in network.get_submodule(unit).branch.modules():
            if not list(module.children()):
                leaves[unit] += 1
                module.register_forward_hook(count(unit))
    units.apply(Iteration("drop", active=~mask(len(units), DROPPED[name])))
    gradients(network, x, y)
    for i, unit in enumerate(units.names):
        assert calls[unit] == (0 if i in DROPPED[name] else leaves[unit])


def test_a_drop_iteration_computes_fewer_floating_point_operations(make_network, make_batch):
    from torch.utils.flop_counter import FlopCounterMode

    network, (x, y) = make_network("resnet20"), make_batch("resnet20")
    units = Units(network)

    def count(iteration):
        units.apply(iteration)
        with FlopCounterMode(display=False) as counter:
            gradients(network, x, y)
        return counter.get_total_flops()

    full = count(FULL)
    dropped = mask(9, [4, 5])  # both at a resolution of 4 x 4, 32 channels: 2 of 9 equal blocks
    assert count(Iteration("drop", active=~dropped)) < full * 0.82
    assert count(Iteration("recover", trained=dropped, rest_trained=False)) < full * 0.6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["droppath", "residual_droppath"])
@pytest.mark.parametrize("step", [0, 1])
def test_release_leaves_the_model_as_it_was_found(name, method, step, make_network, make_batch):
    network, (x, y) = make_network(name).eval(), make_batch(name)
    before = gradients(network, x, y)
    units = Units(network)
    units.apply(method_class(method)(rate=0.5).iteration(step, Training(len(units), batch_size=12, seed=0)))
    units.release()
    assert all(p.requires_grad for p in network.parameters())
    after = gradients(network, x, y)
    assert torch.equal(before[0], after[0])
    assert all(torch.equal(before[1][key], after[1][key]) for key in before[1])


def test_what_one_iteration_set_does_not_leak_into_the_next(make_network, make_batch):
    method, (x, y) = method_class("residual_droppath")(rate=0.5), make_batch("resnet20")
    used, fresh = make_network("resnet20").eval(), make_network("resnet20").eval()
    units = Units(used)
    for step in range(8):
        iteration = method.iteration(step, Training(9, batch_size=12, seed=1))
        units.apply(iteration)
        other = copy.deepcopy(fresh)
        Units(other).apply(iteration)
        (logits, found), (expected_logits, expected) = gradients(used, x, y), gradients(other, x, y)
        assert torch.equal(logits, expected_logits)
        for key, gradient in found.items():
            there = expected[key]
            assert (gradient is None) == (there is None)
            assert gradient is None or torch.equal(gradient, there)


FORMS = [(name, "pnnh") for name in ("mlp8", "resnet20", "resnet18", "vit_micro")]
FORMS += [(name, path) for name in architectures() if "_same_" not in name for path in ("residual", "plain")]
BLOCKS = {"resnet18": 8, "resnet50": 16}  # timm's; our own say it in their names


DEEP = {"resnet56", "resnet110", "resnet50", "vit_small", "mlp64"}


@pytest.mark.parametrize(
    ("name", "path"), [pytest.param(*form, marks=[pytest.mark.slow] * (form[0] in DEEP)) for form in FORMS]
)
@pytest.mark.parametrize("granularity", ["branch", "block"])
def test_the_groups_partition_the_parameters(name, path, granularity, make_network):
    network = make_network(name, path)
    units = Units(network, granularity)
    sorted_in = [id(p) for group in units.groups for p in group.parameters]
    assert sorted(sorted_in) == sorted(id(p) for p in network.parameters())
    if name.startswith("vit"):
        expected = architecture(name).arguments["depth"] * (2 if granularity == "branch" else 1)
    elif name.startswith("resnet"):
        expected = BLOCKS.get(name, (architecture(name).depth - 2) // 2)
    else:
        expected = architecture(name).depth
    assert len(units) == len(units.gates) == len(units.groups) - 1 == (expected if path == "residual" else 0)


class TestBlocksAsUnits:
    def test_attention_and_mlp_of_a_transformers_block_share_a_mask(self, make_network, make_batch):
        network, (x, y) = make_network("vit_micro"), make_batch("vit_micro")
        units = Units(network, "block")
        assert units.names == [f"blocks.{i}" for i in range(6)]
        kept = ~mask(6, [1, 4])
        units.apply(Iteration("drop", active=kept, scale=np.full(6, 2.0), trained=kept))
        assert [[gate.active for gate in gates] for gates in units.gates] == [[bool(k)] * 2 for k in kept]
        assert [[gate.scale for gate in gates] for gates in units.gates] == [[2.0, 2.0]] * 6
        found = gradients(network, x, y)[1]
        absent = {name.split(".norm")[0].split(".attn")[0].split(".mlp")[0] for name, g in found.items() if g is None}
        assert absent == {"blocks.1", "blocks.4"}

    def test_a_dropped_block_hands_its_input_on(self, make_network, make_batch):
        network, (x, _) = make_network("vit_micro"), make_batch("vit_micro")
        reference = copy.deepcopy(network)
        reference.blocks = reference.blocks[1:4]
        units = Units(network, "block")
        units.apply(Iteration("drop", active=~mask(6, [0, 4, 5])))
        assert torch.equal(network(x), reference(x))

    def test_where_a_block_has_one_branch_it_is_the_same_thing(self, make_network):
        network = make_network("resnet20")
        branch, block = Units(network), Units(network, "block")
        assert branch.names == block.names
        assert branch.gates == block.gates

    def test_granularity_follows_the_option_of_the_method(self):
        for granularity in ("branch", "block"):
            assert method_class("residual_droppath")(granularity=granularity).unit_granularity == granularity


@pytest.mark.parametrize("name", NAMES)
def test_units_come_in_the_order_of_the_forward_pass(name, make_network, make_batch):
    network = make_network(name)
    units, order = Units(network), []
    for unit in units.names:
        network.get_submodule(unit).register_forward_pre_hook(lambda module, _, unit=unit: order.append(unit))
    network(make_batch(name)[0])
    assert order == units.names
