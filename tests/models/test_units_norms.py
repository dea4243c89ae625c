"""Batch normalisation where parameters are frozen: what it normalises by, and whether it keeps count."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rdp.methods import FULL, Iteration, Training, method_class
from rdp.models.gates import GatedBranch
from rdp.models.units import Units

TRAINED = np.isin(np.arange(9), [2, 5])
OPTIONS = ["update", "batch", "eval"]


def recover(norm: str, **options) -> Iteration:
    return Iteration("recover", **{"trained": TRAINED, "rest_trained": False, "frozen_norm": norm} | options)


@pytest.fixture
def network(make_network, make_batch):
    """A network whose running statistics are those of no batch."""
    network = make_network("resnet20")
    for seed in range(3):
        network(make_batch("resnet20", seed=seed)[0])
    return network


@pytest.fixture
def x(make_batch):
    return make_batch("resnet20", size=16, seed=9)[0]


def moved(network: nn.Module, x: torch.Tensor) -> dict[str, bool]:
    """Which norms' running statistics a forward pass moves; all of a norm's move, or none."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(x)
    changes = {}
    for name, buffer in network.named_buffers():
        changes.setdefault(name.rpartition(".")[0], set()).add(not torch.equal(buffer, before[name]))
    assert all(len(change) == 1 for change in changes.values())
    return {name: change.pop() for name, change in changes.items()}


def trains(units: Units, network: nn.Module, rest: bool) -> dict[str, bool]:
    """Which norms belong to what a recover iteration trains."""
    chosen = {name for name, trained in zip(units.names, TRAINED, strict=True) if trained}
    owners = {key: ".".join(key.split(".")[:2]) for key, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    return {key: owner in chosen or (rest and owner not in units.names) for key, owner in owners.items()}


def settings(network: nn.Module) -> list[tuple]:
    return [(m.training, getattr(m, "track_running_stats", None)) for m in network.modules()]


@pytest.mark.parametrize("rest", [False, True], ids=["rest frozen", "rest trained"])
class TestRunningStatistics:
    def test_update_moves_them_all(self, rest, network, x):
        Units(network).apply(recover("update", rest_trained=rest))
        assert all(moved(network, x).values())

    @pytest.mark.parametrize("norm", ["batch", "eval"])
    def test_batch_and_eval_leave_those_of_what_is_frozen(self, norm, rest, network, x):
        units = Units(network)
        units.apply(recover(norm, rest_trained=rest))
        expected = trains(units, network, rest)
        assert set(expected.values()) == {True, False}
        assert moved(network, x) == expected


class TestNormalisation:
    def outputs(self, network: nn.Module, x: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Input and output of each norm in a forward pass."""
        seen = {}
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                # ReLUs in place come behind a norm.
                module.register_forward_hook(
                    lambda _, inputs, output, name=name: seen.update({name: (inputs[0].clone(), output.clone())})
                )
        network(x)
        return seen

    @pytest.mark.parametrize("norm", OPTIONS)
    def test_eval_normalises_by_running_statistics_what_is_frozen_and_all_else_by_the_batchs(self, norm, network, x):
        reference = copy.deepcopy(network)
        units = Units(network)
        units.apply(recover(norm))
        expected = trains(units, network, rest=False)
        for name, (given, output) in self.outputs(network, x).items():
            module = reference.get_submodule(name)
            by_batch = F.batch_norm(given, None, None, module.weight, module.bias, training=True)
            running = module.running_mean, module.running_var
            by_running = F.batch_norm(given, *running, module.weight, module.bias)
            assert not torch.allclose(by_batch, by_running, atol=1e-3)
            used = by_running if norm == "eval" and not expected[name] else by_batch
            assert torch.equal(output, used), name

    def test_batch_computes_what_update_computes(self, network, x):
        logits = []
        for norm in ("update", "batch"):
            model = copy.deepcopy(network)
            Units(model).apply(recover(norm))
            logits.append(model(x))
        assert torch.equal(*logits)

    def test_frozen_networks_under_eval_compute_what_evaluation_does(self, network, x):
        expected = copy.deepcopy(network).eval()(x)
        Units(network).apply(recover("eval", trained=np.zeros(9, bool)))
        assert torch.equal(network(x), expected)


class TestLeaving:
    @pytest.mark.parametrize("norm", OPTIONS)
    def test_release_restores_every_norm(self, norm, network, x):
        units, before = Units(network), settings(network)
        units.apply(recover(norm))
        assert (settings(network) == before) == (norm == "update")
        units.release()
        assert settings(network) == before
        assert all(moved(network, x).values())

    @pytest.mark.parametrize("norm", OPTIONS)
    def test_one_iteration_leaves_nothing_to_the_next(self, norm, network, x):
        units, before = Units(network), settings(network)
        for other in (*OPTIONS, norm):
            units.apply(recover(other, trained=~TRAINED))
        units.apply(recover(norm))
        fresh = copy.deepcopy(network)  # copies settings, but no gates
        units.apply(FULL)
        assert settings(network) == before
        Units(network).apply(recover(norm))
        assert settings(network) == settings(fresh)

    def test_what_the_user_switched_off_stays_off(self, network, x):
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        for module in norms[::2]:
            module.eval()
        units, before = Units(network), settings(network)
        for norm in OPTIONS:
            units.apply(recover(norm))
            units.release()
            assert settings(network) == before

    @pytest.mark.parametrize("norm", OPTIONS)
    def test_a_norm_that_two_branches_share_is_restored_too(self, norm):
        class Block(GatedBranch):
            def forward(self, x):
                return self.gate.add(x, self.branch, x)

        shared = nn.BatchNorm1d(4)
        network = nn.Sequential(*(Block(nn.Sequential(nn.Linear(4, 4), shared)) for _ in range(3)))
        units, before = Units(network), settings(network)
        units.apply(recover(norm, trained=np.array([False, False, True])))
        units.release()
        assert settings(network) == before


@pytest.mark.parametrize("method", ["residual_droppath", "random_freeze"])
@pytest.mark.parametrize("norm", OPTIONS)
def test_a_methods_option_reaches_the_norms_and_dropped_branches_stay_as_they_are(method, norm, network, make_batch):
    schedule, units = method_class(method)(rate=0.5, frozen_norm=norm), Units(network)
    for step in range(4):
        planned = schedule.iteration(step, Training(9, batch_size=12, seed=0))
        units.apply(planned)
        found = moved(network, make_batch("resnet20", seed=step)[0])
        for unit, trained in zip(units.names, planned.trained, strict=True):
            # A dropped branch computes nothing; a frozen one keeps count only under `update`.
            counts = trained or (planned.kind != "drop" and norm == "update")
            assert {change for name, change in found.items() if name.startswith(f"{unit}.")} == {counts}
        assert found["0.norm"] == (planned.rest_trained or norm == "update")
