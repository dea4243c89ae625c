"""FSDP2: a model that is sharded before the schedule is made trains like one that is not."""

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

import rdp
from tests.helpers.tiny import TINY

VIT = TINY["vit"]
STEPS, BATCH = 12, 8


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """All of a parameter that may be sharded."""
    full = getattr(parameter, "full_tensor", None)
    return (parameter if full is None else full()).detach().clone()


def train(network: nn.Module, part: slice) -> dict:
    """Some steps on a part of each mini-batch: the weights, and which parameters were trained and which moved."""
    # Two of three blocks lose all their branches in a drop iteration.
    schedule = rdp.ResidualDropPath(network, 0.9, schedule="uniform", scaling="none")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    trained, moved = [], []
    for step in range(STEPS):
        x, y = VIT.batch(BATCH, seed=step)
        before = {name: whole(p) for name, p in network.named_parameters()}
        with schedule.iteration(step):
            trained.append({name for name, p in network.named_parameters() if p.requires_grad})
            F.cross_entropy(network(x[part].double()), y[part]).backward()
        assert trained[-1] == {name for name, p in network.named_parameters() if p.grad is not None}
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        moved.append({name for name, p in network.named_parameters() if not torch.equal(whole(p), before[name])})
    schedule.close()
    return {"weights": {name: whole(p) for name, p in network.named_parameters()}, "trained": trained, "moved": moved}


def work(rank: int, folder: Path) -> None:
    """One of two processes, with its half of each mini-batch and of each parameter."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    network, mesh = VIT.build().double(), init_device_mesh("cpu", (2,))
    for block in network.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    found = train(network, slice(rank * BATCH // 2, (rank + 1) * BATCH // 2))
    torch.save(found, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_like_one_on_the_joined_batches(tmp_path):
    multiprocessing.spawn(work, args=(tmp_path,), nprocs=2)
    expected = train(VIT.build().double(), slice(BATCH))
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt")
        assert found["moved"] == found["trained"] == expected["trained"]
        for name, value in expected["weights"].items():
            torch.testing.assert_close(found["weights"][name], value, rtol=1e-7, atol=1e-9)
