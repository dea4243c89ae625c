"""Counted operations equal formulas and the operations of a real step."""

import copy

import numpy as np
import pytest
import torch
from timm.models import create_model
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from rdp.methods import FULL, Iteration
from rdp.models.units import Units
from rdp.training.cost import IterationCost, UnitCosts, count_activation_bytes
from tests.helpers.tiny import TINY

REAL = ["mlp8", "resnet20", "resnet18", "resnet", "bottleneck", "vit", "convnext", "swin", "efficientnet"]


@pytest.fixture(scope="module")
def make(make_network):
    """A network by name, and the shape of what it reads."""

    def make(name: str) -> tuple[nn.Module, tuple[int, ...]]:
        if name in TINY:
            return TINY[name].build(), (3, TINY[name].side, TINY[name].side)
        if name == "resnet18":
            return create_model(name, num_classes=5), (3, 32, 32)
        return make_network(name), (2,) if name.startswith("mlp") else (1, 8, 8)

    return make


class Real:
    """Operations of one example, counted while a real network takes a step."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...], granularity: str = "branch") -> None:
        self.network = copy.deepcopy(network).train()
        self.units, self.x = Units(self.network, granularity), torch.randn(2, *shape)

    def __call__(self, iteration: Iteration) -> int:
        self.units.apply(iteration)
        self.network.zero_grad(set_to_none=True)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            loss = self.network(self.x).sum()
            if loss.requires_grad:
                loss.backward()
        assert counter.get_total_flops() % 2 == 0
        return counter.get_total_flops() // 2


def iterations(units: int) -> dict[str, Iteration]:
    """Every kind of iteration, with masks of every kind."""
    generator = np.random.default_rng(0)
    first, last, random = np.arange(units) == 0, np.arange(units) == units - 1, generator.random(units) < 0.5
    found = {"full": FULL, "droppath": Iteration("drop", active=generator.random((units, 2)) < 0.5)}
    for name, dropped in {"first": first, "last": last, "random": random, "others": ~random}.items():
        found |= {
            f"drop {name}": Iteration("drop", active=~dropped, trained=~dropped),
            f"drop {name}, all trained": Iteration("drop", active=~dropped),
            f"recover {name}": Iteration("recover", trained=dropped, rest_trained=False),
            f"recover {name} and the rest": Iteration("recover", trained=dropped),
        }
    nothing = np.zeros(units, bool)
    found["drop all"] = Iteration("drop", active=nothing, trained=nothing)
    found["freeze all"] = Iteration("freeze", trained=nothing, rest_trained=False)
    return found


class TestAgainstARealStep:
    @pytest.mark.parametrize(
        "name",
        [
            name if name in {"resnet20", "resnet18", "vit"} else pytest.param(name, marks=pytest.mark.slow)
            for name in REAL
        ],
    )
    def test_counted_cost_equals_measured_cost_for_every_kind_of_iteration(self, name, make):
        network, shape = make(name)
        cost, measured = IterationCost(network, shape), Real(network, shape)
        for kind, iteration in iterations(len(cost.weights)).items():
            assert cost(iteration) == measured(iteration), kind

    @pytest.mark.parametrize("name", ["vit", "swin"])
    def test_counted_cost_equals_measured_cost_with_blocks_as_units(self, name, make):
        network, shape = make(name)
        cost, measured = IterationCost(network, shape, "block"), Real(network, shape, "block")
        assert 2 * len(cost.weights) == len(TINY[name].units)
        for kind, iteration in iterations(len(cost.weights)).items():
            assert cost(iteration) == measured(iteration), kind

    @pytest.mark.parametrize("name", ["resnet20", "vit", "convnext"])
    def test_the_counted_forward_pass_is_that_of_the_network(self, name, make):
        network, shape = make(name)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            network(torch.randn(2, *shape))
        assert IterationCost(network, shape).forward_full == counter.get_total_flops() // 2

    @pytest.mark.parametrize("name", ["resnet", "vit"])
    def test_counting_does_not_change_the_network(self, name, make):
        network, shape = make(name)
        network.eval()
        next(network.parameters()).requires_grad_(False)
        state, modes = copy.deepcopy(network.state_dict()), [m.training for m in network.modules()]
        trained, kinds = [p.requires_grad for p in network.parameters()], [type(m) for m in network.modules()]
        IterationCost(network, shape)
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert modes == [m.training for m in network.modules()]
        assert trained == [p.requires_grad for p in network.parameters()]
        assert kinds == [type(m) for m in network.modules()]

    def test_a_network_in_a_schedule_keeps_its_gates_and_cost(self, make):
        network, shape = make("vit")
        expected = IterationCost(network, shape)
        units = Units(network)
        units.apply(iterations(6)["drop last"])
        before = [[(gate.active, gate.scale) for gate in gates] for gates in units.gates]
        assert IterationCost(network, shape)(FULL) == expected(FULL)
        assert [[(gate.active, gate.scale) for gate in gates] for gates in units.gates] == before

    @pytest.mark.parametrize("name", ["plain", "pnnh"])
    def test_a_network_without_units_has_only_full_steps(self, name, make_network):
        network = make_network("resnet20", name)
        cost = IterationCost(network, (1, 8, 8))
        assert len(cost.weights) == 0
        assert cost(FULL) == Real(network, (1, 8, 8))(FULL)
        assert cost.updates(FULL) == 1


class TestByHand:
    """A multiply-add counts two. Backward, a product costs once for its input's gradient and once for its weights'."""

    def test_an_mlp(self, make):
        network, shape = make("mlp8")
        cost, layer, stem, head = IterationCost(network, shape), 2 * 32 * 32, 2 * 2 * 32, 2 * 32 * 10
        for found, expected in [
            (cost.units.forward, layer),
            (cost.units.frozen, layer),
            (cost.units.trained, 2 * layer),
            (cost.units.lowest, layer),
            (cost.rest_frozen, head),
            (cost.weights, 32 * 32 + 2 * 32),
        ]:
            assert found.tolist() == [expected] * 8
        assert cost.rest_forward == stem + head
        assert cost.rest_trained == stem + 2 * head  # the network's input needs no gradient
        assert cost.forward_full == 8 * layer + stem + head

    def test_a_resnet(self, make):
        network, shape = make("resnet20")
        cost, head = IterationCost(network, shape), 2 * 64 * 10
        units = []
        for width_in, width, pixels in [(16, 16, 64), (16, 32, 16), (32, 64, 4)]:
            units += [2 * 9 * pixels * (width_in * width + width * width)]
            units += [2 * 9 * pixels * 2 * width * width] * 2
        assert cost.units.forward.tolist() == cost.units.frozen.tolist() == units
        assert cost.units.trained.tolist() == [2 * unit for unit in units]
        # The lowest unit's first convolution hands nothing down.
        firsts = [2 * 9 * p * a * b for a, b, p in [(16, 16, 64)] * 3 + [(16, 32, 16)] + [(32, 32, 16)] * 2]
        firsts += [2 * 9 * p * a * b for a, b, p in [(32, 64, 4)] + [(64, 64, 4)] * 2]
        assert cost.units.lowest.tolist() == [2 * unit - first for unit, first in zip(units, firsts, strict=True)]
        stem = 2 * 9 * 1 * 16 * 64
        assert (cost.rest_forward, cost.rest_trained) == (stem + head, stem + 2 * head)
        assert cost.rest_frozen.tolist() == [head] * 9

    def test_a_vision_transformer(self, make):
        network, shape = make("vit")
        cost, tokens, width, classes = IterationCost(network, shape), 17, 24, 5
        qkv, products, project = 2 * tokens * width * 3 * width, 2 * tokens * tokens * width, 2 * tokens * width * width
        up = down = 2 * tokens * width * 4 * width
        attention = [
            qkv + 2 * products + project,
            qkv + 4 * products + project,  # frozen: both factors of a product want their gradients
            2 * qkv + 4 * products + 2 * project,
        ]
        attention.append(attention[-1])  # the lowest hands a gradient down to the norm in front of it, no further
        mlp = [up + down, up + down, 2 * up + 2 * down, 2 * up + 2 * down]
        of = cost.units
        for found, a, m in zip((of.forward, of.frozen, of.trained, of.lowest), attention, mlp, strict=True):
            assert found.tolist() == [a, m] * 3
        stem, head = 2 * 16 * (3 * 4 * 4) * width, 2 * width * classes
        assert (cost.rest_forward, cost.rest_trained) == (stem + head, stem + 2 * head)
        assert cost.rest_frozen.tolist() == [head] * 6
        assert (
            cost.weights.tolist()
            == [
                2 * width + 3 * width * width + 3 * width + width * width + width,
                2 * width + 2 * 4 * width * width + 4 * width + width,
            ]
            * 3
        )

    def test_downsampling_in_a_shortcut_belongs_to_the_rest(self, make):
        network, shape = make("resnet")  # a stem of 64 channels on 16 x 16, pooled to 8 x 8; widths 8, 8, 16, 16
        cost, stem, head = IterationCost(network, shape), 2 * 49 * 3 * 64 * 256, 2 * 16 * 5
        # Of 1 x 1, by unit; the third unit changes neither width nor resolution.
        shortcuts = {0: 2 * 64 * 8 * 64, 1: 2 * 8 * 8 * 16, 3: 2 * 8 * 16 * 4, 4: 2 * 16 * 16 * 1}
        assert cost.rest_forward == stem + head + sum(shortcuts.values())
        assert cost.rest_trained == stem + 2 * head + 2 * sum(shortcuts.values())
        # A gradient on its way to a unit goes down the shortcuts above it.
        above = [sum(flops for unit, flops in shortcuts.items() if unit > i) for i in range(5)]
        assert cost.rest_frozen.tolist() == [head + flops for flops in above]


class TestClosedForms:
    N = 8

    def cost(self, lowest: int = 2) -> IterationCost:
        """Units of one cost, forward f = 1, and nothing else."""
        ones, nothing = np.ones(self.N, np.int64), np.zeros(self.N, np.int64)
        cost = IterationCost.__new__(IterationCost)  # of no network: all that one would be counted for is given
        cost.units, cost.rest_frozen = UnitCosts(ones, ones, 2 * ones, lowest * ones), nothing
        cost.full, cost.forward_full, cost.weights = 3 * self.N, self.N, 10 * ones
        return cost

    @pytest.mark.parametrize("dropped", [[0], [0, 3], [0, 1, 6, 7], list(range(8))])
    def test_a_pair_costs_5_minus_2p_sixths_of_two_full_steps(self, dropped):
        """Drop: 3 (1 - p) f a unit. Recover: f forward, and f or 2 f backward, 2 + p in all. Full: 3 f."""
        mask = np.isin(np.arange(self.N), dropped)
        cost, p = self.cost(), len(dropped) / self.N
        drop = cost(Iteration("drop", active=~mask, trained=~mask))
        recover = cost(Iteration("recover", trained=mask, rest_trained=False))
        assert cost(FULL) == 3 * self.N
        assert drop + recover == pytest.approx((5 - 2 * p) / 6 * 2 * cost(FULL))

    @pytest.mark.parametrize("first", range(8))
    def test_the_backward_pass_ends_at_the_earliest_trained_unit(self, first):
        mask = np.arange(self.N) >= first
        recover = self.cost(lowest=1)(Iteration("recover", trained=mask, rest_trained=False))
        assert recover == self.N + 1 + 2 * (self.N - first - 1)

    def test_updates_are_the_trained_share_of_the_units_parameters(self):
        mask = np.isin(np.arange(self.N), [0, 3])
        cost = self.cost()
        assert cost.updates(FULL) == 1
        assert cost.updates(Iteration("recover", trained=mask)) == 2 / 8
        assert cost.updates(Iteration("drop", active=~mask, trained=~mask)) == 6 / 8


class Convolutions(TorchDispatchMode):
    """The kernels of convolutions, in the order of their calls: forward, and what each gives back backward."""

    def __init__(self) -> None:
        super().__init__()
        self.forward: list[int] = []
        self.backward: dict[int, tuple[bool, bool]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self.forward.append(args[1].data_ptr())
        elif function is torch.ops.aten.convolution_backward.default:
            to_input, to_weight, _ = args[-1]
            self.backward[args[2].data_ptr()] = (to_input, to_weight)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["resnet", "bottleneck", "convnext", "efficientnet"])
class TestKernels:
    def run(self, name: str, iteration: Iteration) -> tuple[dict[int, str | None], Convolutions]:
        """The owner of each convolution of a model, and those that an iteration called."""
        tiny = TINY[name]
        network, (x, y) = tiny.build(), tiny.batch()
        Units(network).apply(iteration)
        owners = {
            module.weight.data_ptr(): tiny.owner(f"{key}.weight")
            for key, module in network.named_modules()
            if isinstance(module, nn.Conv2d)
        }
        with Convolutions() as seen:
            F.cross_entropy(network(x), y).backward()
        return owners, seen

    def test_a_dropped_branch_calls_no_kernel(self, name):
        units = TINY[name].units
        for i, dropped in enumerate(units):
            kept = np.arange(len(units)) != i
            owners, seen = self.run(name, Iteration("drop", active=kept, trained=kept))
            expected = {kernel for kernel, owner in owners.items() if owner != dropped}
            assert len(expected) < len(owners)
            assert set(seen.forward) == set(seen.backward) == expected
            assert len(seen.forward) == len(expected)

    def test_a_frozen_branch_computes_no_weight_gradient_and_the_backward_pass_ends_at_the_earliest_trained_one(
        self, name
    ):
        units = TINY[name].units
        for i, trained in enumerate(units):
            mask = np.arange(len(units)) == i
            owners, seen = self.run(name, Iteration("recover", trained=mask, rest_trained=False))
            assert set(seen.forward) == set(owners)
            above = set(units[i + 1 :])
            for kernel, (_, to_weight) in seen.backward.items():
                assert owners[kernel] in above | {trained, None}
                assert to_weight == (owners[kernel] == trained)
            called = {owners[kernel] for kernel in seen.backward}
            assert {trained} | above <= called
            assert not all(to_input for to_input, _ in seen.backward.values())  # the lowest hands nothing down


class TestActivationBytes:
    """Against what each layer saves, written out."""

    def test_a_linear_layer_keeps_its_input_and_a_rectifier_its_output(self):
        network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        assert count_activation_bytes(network, (8,)) == 4 * (8 + 16)

    def test_a_tensor_that_two_layers_keep_counts_once(self):
        network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(inplace=True), nn.Linear(16, 4))
        assert count_activation_bytes(network, (8,)) == 4 * (8 + 16)

    def test_what_a_batch_shares_and_parameters_do_not_count(self):
        network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(75, 4))
        # The input of each layer; the norm's statistics are shared.
        assert count_activation_bytes(network, (2, 5, 5)) == 4 * (50 + 75 + 75)

    def test_it_is_part_of_a_networks_cost(self, make_network):
        network = make_network("resnet20")
        assert IterationCost(network, (1, 8, 8)).activation_bytes == count_activation_bytes(network.train(), (1, 8, 8))
