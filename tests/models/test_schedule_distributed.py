"""A schedule under DistributedDataParallel: two processes over gloo, and errors where it cannot work."""

import copy
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import rdp
from rdp.errors import UserError
from tests.helpers.tiny import TINY

VIT = TINY["vit"]
STEPS, BATCH = 6, 8
REFUSAL = r"\ADistributedDataParallel: pass find_unused_parameters=True; .*\Z"
ORDERS = ["schedule of the wrapper", "schedule, then wrapper"]


def train(model: nn.Module, schedule: rdp.Schedule, part: slice) -> list[list[bool]]:
    """Some steps on a part of each mini-batch, and what each trained; no batch norm, which would see the parts."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    trained = []
    for step in range(STEPS):
        x, y = VIT.batch(BATCH, seed=step)
        with schedule.iteration(step):
            F.cross_entropy(model(x[part].double()), y[part]).backward()
        trained.append([p.grad is not None for p in model.parameters()])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return trained


def join(folder: Path, rank: int, size: int) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)


def work(rank: int, folder: Path) -> None:
    """One of two processes: trains in both orders of wrapping, and writes down what came of it."""
    torch.set_num_threads(1)
    join(folder, rank, 2)
    found = {}
    for order in ORDERS:
        network = VIT.build().double()
        if order == ORDERS[0]:
            model = DistributedDataParallel(network, find_unused_parameters=True)
            schedule = rdp.ResidualDropPath(model, 0.5)
        else:
            schedule = rdp.ResidualDropPath(network, 0.5)
            model = DistributedDataParallel(network, find_unused_parameters=True)
        half = BATCH // 2
        trained = train(model, schedule, slice(rank * half, (rank + 1) * half))
        schedule.close()
        found[order] = {"weights": network.state_dict(), "trained": trained}
    torch.save(found, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    """What the two processes found."""
    folder = tmp_path_factory.mktemp("distributed")
    multiprocessing.spawn(work, args=(folder,), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
class TestTwoProcesses:
    def test_they_end_with_the_same_weights_bit_for_bit(self, order, ranks):
        one, other = (found[order]["weights"] for found in ranks)
        assert all(torch.equal(one[key], other[key]) for key in one)

    def test_these_are_the_weights_of_one_process_on_the_joined_batches(self, order, ranks):
        network = VIT.build().double()
        before = copy.deepcopy(network.state_dict())
        trained = train(network, rdp.ResidualDropPath(network, 0.5), slice(BATCH))
        for key, value in network.state_dict().items():
            torch.testing.assert_close(ranks[0][order]["weights"][key], value, rtol=1e-9, atol=1e-12)
            assert not torch.equal(value, before[key])
        for found in ranks:
            assert found[order]["trained"] == trained
        assert not any(all(step) for step in trained)


class TestWithoutFindUnusedParameters:
    @pytest.fixture(autouse=True)
    def _alone(self, tmp_path):
        """A process group of this process alone."""
        join(tmp_path, 0, 1)
        yield
        distributed.destroy_process_group()

    def test_a_schedule_of_such_a_model_is_refused_with_what_to_do(self):
        network = VIT.build()
        kinds = [type(m) for m in network.modules()]
        with pytest.raises(UserError, match=REFUSAL):
            rdp.ResidualDropPath(DistributedDataParallel(network), 0.5)
        assert [type(m) for m in network.modules()] == kinds

    def test_a_model_that_is_wrapped_so_afterwards_is_refused_in_its_first_step(self):
        network = VIT.build()
        schedule = rdp.ResidualDropPath(network, 0.5)
        model = DistributedDataParallel(network)
        with pytest.raises(UserError, match=REFUSAL), schedule.iteration(0):
            model(VIT.batch()[0])

    def test_a_wrapped_model_is_refused_outside_a_context_and_evaluates_there(self):
        model = DistributedDataParallel(VIT.build(), find_unused_parameters=True)
        rdp.ResidualDropPath(model, 0.5)
        with pytest.raises(UserError, match="called in training mode outside"):
            model(VIT.batch()[0])
        x = VIT.batch()[0]
        assert torch.equal(model.eval()(x), VIT.build().eval()(x))


class TestShardedByFsdp1:
    def test_a_schedule_is_refused_with_what_to_do(self, tmp_path):
        join(tmp_path, 0, 1)
        try:
            options = {"device_id": torch.device("cpu"), "sharding_strategy": ShardingStrategy.NO_SHARD}
            model = FullyShardedDataParallel(VIT.build(), use_orig_params=True, **options)
            with pytest.raises(UserError, match=r"\AFullyShardedDataParallel \(FSDP1\): .*; use fully_shard "):
                rdp.ResidualDropPath(model, 0.5)
        finally:
            distributed.destroy_process_group()


class TestShardedByFsdp2:
    def _train(self, order: str) -> tuple[dict, list, nn.Module]:
        network = VIT.build().double()
        shard = {"after": 1, "before": 0}.get(order)
        schedule = None if shard == 0 else rdp.ResidualDropPath(network, 0.5)
        if shard is not None:
            for block in network.blocks:
                fully_shard(block)
            fully_shard(network)
        schedule = schedule or rdp.ResidualDropPath(network, 0.5)
        trained = train(network, schedule, slice(BATCH))
        schedule.close()
        weights = {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in network.state_dict().items()}
        return weights, trained, network

    @pytest.mark.parametrize("order", ["before", "after"])
    def test_sharding_before_or_after_the_schedule_changes_no_number(self, order, tmp_path):
        join(tmp_path, 0, 1)
        weights, trained, network = self._train(order)
        distributed.destroy_process_group()
        expected, expected_trained, plain = self._train("none")
        assert trained == expected_trained
        for name, value in expected.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-9, atol=1e-12)
        kinds = [type(module).__name__.removeprefix("FSDP") for module in network.modules()]
        assert kinds == [type(module).__name__ for module in plain.modules()]


def test_a_copy_of_data_parallel_is_refused():
    """`nn.DataParallel` makes one for each GPU, if there are several; this is the first step of that."""
    network = VIT.build()
    schedule = rdp.ResidualDropPath(network, 0.5)
    copied = network._replicate_for_data_parallel()
    with pytest.raises(UserError, match=r"\ADataParallel: .* use DistributedDataParallel.*\Z"), schedule.iteration(0):
        copied(VIT.batch()[0])
